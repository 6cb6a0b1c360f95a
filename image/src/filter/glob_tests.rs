//! Tests of [`super`].

use proptest::prelude::*;

use super::*;

fn matches(pattern: &str, text: &str) -> bool {
    Glob::parse(pattern.as_bytes())
        .unwrap()
        .matches(&[text.as_bytes()])
}

#[test]
fn wildcards_classes_and_escapes() {
    // After rsync's own wildtest.txt: whether it matches, text, pattern.
    for (expected, text, pattern) in [
        (true, "foo", "???"),
        (false, "foo", "??"),
        (true, "", "*"),
        (true, "foo", "f*"),
        (false, "foo", "*f"),
        (true, "foo", "*foo*"),
        (true, "foobar", "*ob*a*r*"),
        (true, "aaaaaaabababab", "*ab"),
        (true, "foo*", "foo\\*"),
        (false, "foobar", "foo\\*bar"),
        (true, "ball", "*[al]?"),
        (false, "ten", "[ten]?"),
        (true, "ten", "**[!te]"),
        (false, "ten", "**[!ten]"),
        (true, "ten", "t[a-g]n"),
        (false, "ten", "t[!a-g]n"),
        (true, "ton", "t[^a-g]n"),
        (true, "a]b", "a[]]b*"),
        (true, "a-b", "a[]-]b*"),
        (true, "a]b", "a[]-]b*"),
        (false, "aab", "a[]-]b*"),
        (true, "aab", "a[]a-]b*"),
        (true, "]", "[]]"),
        (false, "foo/baz/bar", "foo*bar"),
        (true, "foo/baz/bar", "foo**bar"),
        (false, "foo/bar", "foo?bar"),
        (false, "foo/bar", "foo[/]bar"),
        (false, "foo/bar", "f[^eiu][^eiu][^eiu][^eiu][^eiu]r"),
        (true, "foo-bar", "f[^eiu][^eiu][^eiu][^eiu][^eiu]r"),
        (true, "foo/bba/arr", "foo/**arr"),
        (false, "foo/bba/arr", "foo/*arr"),
        (true, "a1B", "[[:alpha:]][[:digit:]][[:upper:]]"),
        (true, " ", "[[:digit:][:upper:][:space:]]"),
        (
            true,
            "_",
            "[[:alnum:][:alpha:][:blank:][:cntrl:][:digit:][:graph:][:lower:][:space:][:upper:]]",
        ),
        (
            false,
            "_",
            "[[:alnum:][:alpha:][:blank:][:cntrl:][:digit:][:lower:][:space:][:upper:]]",
        ),
        (true, "_~!", "[[:punct:]][[:print:]][![:xdigit:]]"),
        (true, "5", "[a-c[:digit:]x-z]"),
        (true, "]", "[\\\\-^]"),
        (false, "[", "[\\\\-^]"),
        (true, "-", "[\\-_]"),
        (true, "]", "[\\]]"),
        (false, "\\", "[\\]]"),
        (true, ":x", "[[:]?"),
        (true, "-", "[a-c-e]"),
        (false, "d", "[a-c-e]"),
    ] {
        assert_eq!(matches(pattern, text), expected, "{pattern:?} on {text:?}");
    }
}

#[test]
fn patterns_that_can_never_match_are_refused() {
    for (pattern, fault) in [
        ("[", GlobFault::OpenClass),
        ("[]", GlobFault::OpenClass),
        ("a[!", GlobFault::OpenClass),
        ("[a-", GlobFault::OpenClass),
        ("[\\", GlobFault::OpenClass),
        ("[a-\\", GlobFault::OpenClass),
        ("[[:alpha:", GlobFault::OpenClass),
        ("[[:alpha:]", GlobFault::OpenClass),
        ("[[:digits:]]", GlobFault::UnknownClass),
        ("[[::]]", GlobFault::UnknownClass),
        ("*\\", GlobFault::LoneBackslash),
    ] {
        assert_eq!(Glob::parse(pattern.as_bytes()).unwrap_err(), fault, "{pattern:?}");
    }
}

#[test]
fn no_pattern_is_slow() {
    let pattern = "*a".repeat(2000) + "b";
    let text = vec![b'a'; 20_000];
    let glob = Glob::parse(pattern.as_bytes()).unwrap();
    let started = std::time::Instant::now();
    assert!(!glob.matches(&[&text]));
    // Trying one way after the other would outlast the machine; this is 20,000 steps of 63 words.
    assert!(started.elapsed().as_secs() < 5);
    assert!(glob.matches(&[&text, b"b"]));
}

/// The slow twin: tries every length for every star.
fn slow(pattern: &[u8], text: &[u8]) -> bool {
    match pattern {
        [] => text.is_empty(),
        [b'*', b'*', rest @ ..] => {
            let rest = &rest[rest.iter().take_while(|&&byte| byte == b'*').count()..];
            (0..=text.len()).any(|len| slow(rest, &text[len..]))
        }
        [b'*', rest @ ..] => (0..=text.len())
            .take_while(|&len| !text[..len].contains(&b'/'))
            .any(|len| slow(rest, &text[len..])),
        [b'?', rest @ ..] => text
            .split_first()
            .is_some_and(|(&byte, text)| byte != b'/' && slow(rest, text)),
        [first, rest @ ..] => text
            .split_first()
            .is_some_and(|(byte, text)| byte == first && slow(rest, text)),
    }
}

proptest! {
    #[test]
    fn the_automaton_says_what_trying_says(pattern in "[ab/*?]{1,9}", text in "[ab/]{0,9}", cut in 0usize..10) {
        let glob = Glob::parse(pattern.as_bytes()).unwrap();
        let expected = slow(pattern.as_bytes(), text.as_bytes());
        let (one, two) = text.as_bytes().split_at(cut.min(text.len()));
        prop_assert_eq!(glob.matches(&[one, two]), expected);
    }

    #[test]
    fn long_patterns_cross_words(middle in "[ab/*?]{1,9}", text in "[ab/]{0,9}", before in 50usize..200) {
        let pattern = "x".repeat(before) + &middle + &"y".repeat(70);
        let long = "x".repeat(before) + &text + &"y".repeat(70);
        let glob = Glob::parse(pattern.as_bytes()).unwrap();
        prop_assert_eq!(glob.matches(&[long.as_bytes()]), slow(middle.as_bytes(), text.as_bytes()));
    }

    #[test]
    fn no_bytes_make_it_panic(pattern in proptest::collection::vec(any::<u8>(), 0..40), text in any::<Vec<u8>>()) {
        if let Ok(glob) = Glob::parse(&pattern) {
            glob.matches(&[&text]);
        }
    }
}
