use proptest::prelude::*;

use super::*;

fn name(text: &str) -> UserName {
    UserName::parse(text).unwrap()
}

fn plain(text: &str) -> StoredPassword {
    StoredPassword::Plain(text.to_owned())
}

fn scram() -> StoredPassword {
    StoredPassword::parse(
        "{SCRAM-SHA-256}4096,c2FsdA==,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        false,
    )
    .unwrap()
}

fn file(text: &str) -> (tempfile::TempDir, UserFile) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("users");
    std::fs::write(&path, text).unwrap();
    (dir, UserFile::new(&path, None))
}

fn text(file: &UserFile) -> String {
    std::fs::read_to_string(&file.path).unwrap()
}

#[test]
fn names_that_a_line_can_hold() {
    for good in ["anna", "Anna@Example.org", "é", &"x".repeat(NAME_BYTES_MAX)] {
        assert!(UserName::parse(good).is_ok(), "{good}");
    }
    for bad in ["", "a:b", "a b", "a\tb", "a\nb", "#a", "a\u{7f}"] {
        assert_eq!(UserName::parse(bad), Err(UserNameError::Character), "{bad:?}");
    }
    assert_eq!(UserName::parse(&"x".repeat(NAME_BYTES_MAX + 1)), Err(UserNameError::TooLong));
}

#[test]
fn what_is_not_the_users_stays_and_what_is_behind_its_records_too() {
    let before = "# anna:{PLAIN}x\nbob:{PLAIN}b:1000:8::/mail\r\n\nAnna:{PLAIN}old:1001:8::/mail/anna\nnonsense\nANNA:{SHA}zz\ncid:{PLAIN}c";
    let (_dir, file) = file(before);
    file.replace(&name("anna"), &[plain("new"), scram()]).unwrap();
    let line = format!("Anna:{{PLAIN}}new:1001:8::/mail/anna\nAnna:{}\n", scram().to_text());
    let after = before.replace("Anna:{PLAIN}old:1001:8::/mail/anna\n", &line).replace("ANNA:{SHA}zz\n", "");
    assert_eq!(text(&file), after);
    file.add(&name("dora"), &[plain("d")]).unwrap();
    assert_eq!(text(&file), format!("{after}\ndora:{{PLAIN}}d\n"));
    file.delete(&name("DORA")).unwrap();
    assert_eq!(text(&file), format!("{after}\n"));
}

#[test]
fn twice_and_never_are_told() {
    let (dir, file) = file("anna:{PLAIN}a\n");
    assert!(matches!(file.add(&name("ANNA"), &[plain("b")]), Err(UserError::Exists { .. })));
    assert!(matches!(file.replace(&name("bob"), &[plain("b")]), Err(UserError::Unknown { .. })));
    assert!(matches!(file.delete(&name("bob")), Err(UserError::Unknown { .. })));
    assert_eq!(text(&file), "anna:{PLAIN}a\n");
    let nowhere = UserFile::new(&dir.path().join("no/users"), None);
    let error = nowhere.add(&name("anna"), &[]).unwrap_err().to_string();
    assert!(error.contains("no/users"), "{error}");
}

#[test]
fn a_list_has_no_secrets() {
    let stored = format!("anna:{{PLAIN}}hush\nANNA:{}:x\nbob:{{NTLM}}hush\n", scram().to_text());
    let (_dir, file) = file(&stored);
    let users = file.list().unwrap();
    assert_eq!(users[0], UserEntry { name: "anna".into(), schemes: vec!["PLAIN".into(), "SCRAM-SHA-256".into()] });
    assert_eq!(users[1].schemes, ["(unknown password scheme)"]);
    assert!(!format!("{users:?}").contains("hush"));
}

#[test]
fn mode_and_links_stay_and_nothing_is_left_behind() {
    let (dir, file) = file("anna:{PLAIN}a\n");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o777;
    std::fs::set_permissions(&file.path, PermissionsExt::from_mode(0o640)).unwrap();
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&file.path, &link).unwrap();
    UserFile::new(&link, None).replace(&name("anna"), &[plain("b")]).unwrap();
    assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!((text(&file).as_str(), mode(&file.path)), ("anna:{PLAIN}b\n", 0o640));
    let new = UserFile::new(&dir.path().join("new"), None);
    new.add(&name("bob"), &[plain("b")]).unwrap();
    assert_eq!((text(&new).as_str(), mode(&new.path)), ("bob:{PLAIN}b\n", 0o600));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3, "users, link, new");
}

#[test]
fn what_changed_meanwhile_is_not_renewed() {
    let (_dir, file) = file("anna:{PLAIN}a\n");
    assert!(!file.replace_if_unchanged(&name("anna"), &[plain("other")], &[plain("b")]).unwrap());
    assert_eq!(text(&file), "anna:{PLAIN}a\n");
    assert!(file.replace_if_unchanged(&name("anna"), &[plain("a")], &[plain("b")]).unwrap());
    assert_eq!(text(&file), "anna:{PLAIN}b\n");
}

#[test]
fn changes_at_once_are_all_kept() {
    let (_dir, file) = file("");
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let file = file.clone();
            scope.spawn(move || {
                for user in 0..5 {
                    file.add(&name(&format!("u{worker}-{user}")), &[plain("x")]).unwrap();
                }
            });
        }
    });
    assert_eq!(file.list().unwrap().len(), 20);
}

proptest! {
    #[test]
    fn other_lines_are_never_touched(octets in "([ab#:{}\r\n]|é){0,60}") {
        let name = name("a");
        let others = |text: &[u8]| {
            let keep = |line: &&[u8]| !UserLine::parse(line).is_some_and(|line| line.is_for(&name));
            lines(text).filter(keep).collect::<Vec<_>>().concat()
        };
        let before = octets.as_bytes();
        let after = with_user_records(before, &name, &[plain("x")]);
        let (before, kept) = (others(before), others(&after));
        prop_assert!(kept == before || kept == [&before[..], b"\n"].concat());
        let own = lines(&after).filter_map(UserLine::parse).filter(|line| line.is_for(&name)).count();
        prop_assert_eq!(own, 1);
        prop_assert_eq!(contains_user(&with_user_records(&after, &name, &[]), &name), false);
    }
}
