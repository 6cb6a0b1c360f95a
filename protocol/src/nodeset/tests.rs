use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn no_groups(_: &GroupName) -> Option<BTreeSet<NodeName>> {
    None
}

fn set(text: &str) -> NodeSet {
    NodeSet::parse(text, &no_groups).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn names(text: &str) -> Vec<String> {
    set(text).names().into_iter().map(String::from).collect()
}

#[test]
fn sets_expand_as_in_clustershell() {
    for (text, expected) in [
        ("node1", "node1"),
        ("node[1-3,7]", "node1 node2 node3 node7"),
        ("node[08-11]", "node08 node09 node10 node11"),
        ("n[0-10/5]", "n0 n5 n10"),
        ("n[1-2]-ib[0-1]", "n1-ib0 n1-ib1 n2-ib0 n2-ib1"),
        ("a,b , c", "a b c"),
        ("n[1-5]!n[2-3],n2", "n1 n2 n4 n5"),
        ("n[1-5]&n[4-9]", "n4 n5"),
        ("n[1-3]^n[2-4]", "n1 n4"),
        ("n[10,9,1-2,9]", "n1 n2 n9 n10"),
        ("[1-2]a", "1a 2a"),
    ] {
        assert_eq!(names(text).join(" "), expected, "{text}");
    }
}

#[test]
fn sets_fold_back() {
    for text in [
        "node1",
        "node[1-12]",
        "node[001-040,042]",
        "node[098-101]",
        "node[01-100]",
        "a,b,c",
        "node[1-3,7]-ib[0-1]",
        "rack[1-2]-node[01-16]",
        "login,node[1-2]",
        "n1,n01",
        "n1,n[01,10]",
        "n1-ib[0-1],n2-ib0",
        "x1234567890",
    ] {
        assert_eq!(set(text).to_string(), text);
    }
    assert_eq!(set("n9,n10,n11,x").to_string(), "n[9-11],x");
    assert_eq!(set("a!a").to_string(), "");
}

#[test]
fn groups_are_asked_for() {
    let groups = |name: &GroupName| (name.as_str() == "gpu").then(|| set("n[1-3]").into_iter().collect());
    let found = NodeSet::parse("@gpu!n2", &groups).unwrap();
    assert_eq!(found.to_string(), "n[1,3]");
    let error = NodeSet::parse("@cpu", &groups).unwrap_err();
    assert_eq!(error.to_string(), "there is no group cpu");
    assert!(matches!(
        NodeSet::parse("@", &groups),
        Err(NodeSetError::GroupName(_))
    ));
}

#[test]
fn machines_may_be_called_as_ssh_knows_them() {
    let groups = |name: &GroupName| (name.as_str() == "gpu").then(|| set("n[1-2]").into_iter().collect());
    let found = hosts("root@Login.example.org,n[9-10].rack,@gpu,n2", &groups).unwrap();
    assert_eq!(
        found,
        ["root@Login.example.org", "n9.rack", "n10.rack", "n1", "n2"]
    );
    assert_eq!(
        fold(found.iter().map(String::as_str)),
        "n[1-2],n[9-10].rack,root@Login.example.org"
    );
    assert_eq!(
        fold(["node9", "node10", "x", "node1", "10.0.0.1"]),
        "10.0.0.1,node[1,9-10],x"
    );
    assert_eq!(fold([]), "");
    for text in ["", "a,,b", "n[1-", "n[]", "a!b", "@cpu", "n[1-100001]"] {
        assert!(hosts(text, &groups).is_err(), "{text:?}");
    }
}

#[test]
fn nonsense_is_refused_and_nothing_grows_without_bound() {
    for (text, part) in [
        ("", "a name is missing"),
        ("a,,b", "a name is missing"),
        ("!a", "a name is missing"),
        ("n[1-", "brackets"),
        ("n]1[", "brackets"),
        ("n[[1]]", "brackets"),
        ("n[2-1]", "\"2-1\" is no range"),
        ("n[]", "\"\" is no range"),
        ("n[1-3/0]", "is no range"),
        ("n[1-010]", "is no range"),
        ("n[010-11]", "is no range"),
        ("n[a]", "is no range"),
        ("n[1-1234567890]", "is no range"),
        ("Node", "is not a node's name"),
        ("a/../b", "is not a node's name"),
        ("n[1-100001]", "are more than 100000 nodes"),
        ("n[1-400]-[1-400]", "are more than 100000 nodes"),
        ("a[1-60000],b[1-60000]", "are more than 100000 nodes"),
    ] {
        let error = NodeSet::parse(text, &no_groups).unwrap_err().to_string();
        assert!(error.contains(part), "{text:?}: {error}");
    }
    let long = "n[0-9]".repeat(30_000);
    assert!(matches!(
        NodeSet::parse(&long, &no_groups),
        Err(NodeSetError::TooMany(_))
    ));
    assert_eq!(set("n[1-100000]").len(), NODES);
}

/// The slow twin: whether a name is in a text, asked name by name and term by term.
fn holds(text: &[(char, String)], name: &str) -> bool {
    let mut inside = false;
    for (operator, term) in text {
        let matches = names(term).iter().any(|other| other == name);
        inside = match operator {
            ',' => inside || matches,
            '!' => inside && !matches,
            '&' => inside && matches,
            _ => inside != matches,
        };
    }
    inside
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn what_is_folded_expands_to_the_same(
        names in proptest::collection::btree_set("(n|rack0|a-)[0-9]{1,3}(-ib[0-9]{1,2}|x)?", 0..60)
    ) {
        let set: NodeSet = names.iter().map(|name| name.parse().unwrap()).collect();
        let folded = set.to_string();
        if set.is_empty() {
            prop_assert_eq!(folded, "");
        } else {
            let again = NodeSet::parse(&folded, &no_groups).unwrap();
            prop_assert_eq!(&again, &set, "{}", folded);
            prop_assert_eq!(again.to_string(), folded);
        }
    }

    #[test]
    fn operators_work_as_for_each_name_alone(
        terms in proptest::collection::vec(("[,!&^]", "n\\[[0-4]-[5-9]\\]|n[0-9]|m\\[0-3\\]"), 1..6)
    ) {
        let mut terms: Vec<(char, String)> =
            terms.into_iter().map(|(operator, term)| (operator.chars().next().unwrap(), term)).collect();
        terms[0].0 = ',';
        let text: String = terms.iter().map(|(operator, term)| format!("{operator}{term}")).collect();
        let found = set(&text[1..]);
        for name in names("n[0-9],m[0-3]") {
            prop_assert_eq!(found.contains(&name.parse().unwrap()), holds(&terms, &name), "{} in {}", name, text);
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in "[n0-9,!&^@/\\[\\]-]{0,40}") {
        if let Ok(set) = NodeSet::parse(&text, &no_groups) {
            prop_assert!(set.len() <= NODES);
        }
    }
}
