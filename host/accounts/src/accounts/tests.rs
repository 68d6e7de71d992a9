use std::path::Path;

use waxwing_config::HostEnvironment;
use waxwing_types::ManualClock;

use super::*;

const CONFIG: &str = r#"
    myhostname = "mx.example"
    mydestination = ["$myhostname", "localhost"]
    virtual_mailbox_domains = ["box.example"]
    virtual_mailbox_maps = { "Anna@box.example" = "box/anna/", "evil@box.example" = "../../etc" }
    virtual_mailbox_base = "/mail"
    virtual_alias_domains = ["alias.example"]
    virtual_alias_maps = { "info@alias.example" = "anna@box.example", "@box2.example" = "x", "web@box.example" = "anna@box.example" }
    relay_domains = ["relay.example"]
    local_recipient_maps = { "Ben" = "x", "../up" = "x" }
    mail_spool_directory = "/spool"
    recipient_delimiter = "+"
    alias_maps = { "root" = "ben" }
    tables.vip = { "boss" = "1" }
"#;

fn accounts() -> Accounts {
    let facts = HostEnvironment { hostname: "h".into(), is_root: false, path_exists: |_: &Path| true };
    let config = Config::parse(Path::new("w.toml"), CONFIG, &facts).unwrap();
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::default());
    Accounts::open(&config, &clock).unwrap()
}

#[test]
fn classes() {
    let accounts = accounts();
    for (address, class) in [
        ("x@MX.example", AddressClass::Local),
        ("bare", AddressClass::Local),
        ("x@box.example", AddressClass::VirtualMailbox),
        ("x@sub.box.example", AddressClass::Remote),
        ("x@alias.example", AddressClass::VirtualAlias),
        ("x@relay.example", AddressClass::Relay),
        ("x@sub.relay.example", AddressClass::Relay),
        ("x@otherrelay.example", AddressClass::Remote),
        ("x@[127.0.0.1]", AddressClass::Remote),
    ] {
        assert_eq!(accounts.class_of(&Address::parse(address).unwrap()), class, "{address}");
    }
}

#[tokio::test]
async fn who_exists_and_where() {
    let accounts = accounts();
    for (address, exists, mailbox) in [
        ("ANNA@box.example", true, Some("/mail/box/anna")),
        ("anna+list@box.example", true, Some("/mail/box/anna")),
        ("nobody@box.example", false, None),
        ("web@box.example", true, None),
        ("info@alias.example", true, None),
        ("nobody@alias.example", false, None),
        ("root@localhost", true, None),
        ("ben@mx.example", true, Some("/spool/ben")),
        ("ben+x", true, Some("/spool/ben")),
        ("carl@mx.example", false, None),
        ("+@mx.example", false, None),
        ("any@relay.example", true, None),
        ("any@world.example", true, None),
        ("Postmaster", true, Some("/spool/postmaster")),
        ("POSTMASTER@box.example", true, Some("/spool/postmaster")),
        ("postmaster@alias.example", true, Some("/spool/postmaster")),
        ("postmaster@world.example", true, None),
    ] {
        let parsed = Address::parse(address).unwrap();
        assert_eq!(accounts.recipient_exists(&parsed).await, Ok(exists), "{address}");
        assert_eq!(accounts.mailbox(&parsed).await, Ok(mailbox.map(PathBuf::from)), "{address}");
    }
}

#[tokio::test]
async fn no_address_leads_out_of_the_mail_directories() {
    let accounts = accounts();
    let up = Address::new("../up", "mx.example").unwrap();
    assert_eq!(accounts.mailbox(&up).await, Ok(None), "a table may name him; he has no mailbox");
    let evil = accounts.mailbox(&Address::parse("evil@box.example").unwrap()).await;
    assert!(evil.is_err_and(|e| e.to_string().contains("virtual_mailbox_maps")), "a mistake of the table is no unknown user");
}

#[tokio::test]
async fn tables_by_name() {
    let accounts = accounts();
    assert_eq!(accounts.table("vip").unwrap().get("BOSS").await, Ok(Some("1".to_owned())));
    assert_eq!(accounts.table("alias_maps").unwrap().get("root").await, Ok(Some("ben".to_owned())));
    assert!(accounts.table("passwords").is_none());
}
