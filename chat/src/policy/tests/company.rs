//! The company example: units below units, who may only read, who may only write.

use super::super::Policy;

const COMPANY: &str = include_str!("../../../../examples/chat/company.toml");

#[test]
fn departments_and_teams_are_as_the_comments_say() {
    let policy = Policy::parse(COMPANY, "company.toml").unwrap();
    let matrix = policy.matrix();
    assert_eq!(matrix.groups, ["news", "box", "heads", "eng", "platform", "product", "sales"]);
    let lines: Vec<String> = (matrix.users.iter())
        .map(|row| {
            let rights: Vec<&str> = row.rights.iter().map(|rights| rights.letters()).collect();
            format!("{:<12} {:<8} {}", row.user, row.default, rights.join(" "))
        })
        .collect();
    assert_eq!(
        lines,
        [
            "mia.chen     heads    rw r- rw r- r- r- r-",
            "olu.ade      news     rw rw -- -- -- -- --",
            "jan.novak    eng      r- -w rw rw rw rw --",
            "build-server eng      -- -- -- -w -- -- --",
            "sara.lind    platform r- -w -- rw rw -- --",
            "amir.rahimi  platform r- -w -- rw rw -- --",
            "bo.larsen    platform r- -w -- rw rw -- --",
            "carla.rossi  platform r- -w -- rw rw -- --",
            "tomas.silva  product  r- -w -- rw -- rw --",
            "dana.weiss   product  r- -w -- rw -- rw --",
            "eve.martin   product  r- -w -- rw -- rw --",
            "yuki.tanaka  sales    r- -w rw -- -- -- rw",
            "finn.byrne   sales    r- -w -- -- -- -- rw",
            "gita.patel   sales    r- -w -- -- -- -- rw",
        ]
    );
}

#[test]
fn a_name_is_found_in_its_normal_form() {
    let text = COMPANY.replace("eve.martin", "zoë.martin");
    let policy = Policy::parse(&text, "company.toml").unwrap();
    assert_eq!(policy.user_name("zoe\u{308}.martin"), Some("zoë.martin"));
    assert_eq!(policy.user_name("zoe.martin"), None);
    assert_eq!(policy.closest_user("zoe.martin"), Some("zoë.martin"));
}
