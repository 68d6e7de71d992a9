//! Writes the seeds of one target into a folder: `seeds TARGET FOLDER`.

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (target, folder) = (arguments.next().unwrap(), arguments.next().unwrap());
    std::fs::create_dir_all(&folder).unwrap();
    for seed in waxwing_fuzz_targets::seeds().unwrap().iter().filter(|seed| seed.target == target) {
        std::fs::write(format!("{folder}/{}", seed.name), &seed.input).unwrap();
    }
}
