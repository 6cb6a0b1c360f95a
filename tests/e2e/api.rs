//! The HTTP interface as strangers, careless programs and attackers see it.

use serde_json::Value;

use crate::site::{Server, Site};

fn error_of(answer: &(u16, Vec<u8>)) -> String {
    let body: Value = serde_json::from_slice(&answer.1).unwrap();
    body["error"].as_str().unwrap().to_owned()
}

fn json(server: &Server, token: &str, path: &str) -> Value {
    let (status, body) = server.ask(token, &format!("GET {path}"));
    assert_eq!(status, 200, "{path}: {}", String::from_utf8_lossy(&body));
    serde_json::from_slice(&body).unwrap()
}

#[test]
fn everything_needs_the_token() {
    let site = Site::new("api-token", 1000);
    let server = site.server(&[]);
    let token = site.token();
    for path in [
        "/v1/images",
        "/v1/key",
        "/v1/status",
        "/v1/chunks/x",
        "/",
        "/nothing",
    ] {
        let none =
            server.say(format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes());
        assert_eq!(
            (none.0, error_of(&none).as_str()),
            (401, "a token is needed"),
            "{path}"
        );
        let mut wrong = token.clone();
        wrong.replace_range(63..64, if token.ends_with('0') { "1" } else { "0" });
        let wrong = server.ask(&wrong, &format!("GET {path}"));
        assert_eq!(
            (wrong.0, error_of(&wrong).as_str()),
            (401, "the token is wrong"),
            "{path}"
        );
    }
    assert_eq!(server.ask(&token, "GET /v1/images").0, 200);
}

#[test]
fn images_versions_keys_and_chunks_are_given() {
    let site = Site::new("api-images", 1000);
    let server = site.server(&[]);
    let token = site.token();
    site.second_version();
    let images = json(&server, &token, "/v1/images");
    assert_eq!(
        images,
        serde_json::json!({"images": [{"name": "gold", "versions": [1, 2]}]})
    );
    assert_eq!(
        json(&server, &token, "/v1/images/gold")["versions"],
        serde_json::json!([1, 2])
    );
    let key = std::fs::read_to_string(site.state.join("keys/signing.pub")).unwrap();
    assert_eq!(json(&server, &token, "/v1/key")["key"], key.trim());
    let manifest = |version: &str| server.ask(&token, &format!("GET /v1/images/gold/{version}/manifest"));
    let stored =
        |version: u32| std::fs::read(site.state.join(format!("images/gold/versions/{version}"))).unwrap();
    assert_eq!(manifest("1"), (200, stored(1)));
    assert_eq!(manifest("latest"), (200, stored(2)));
    for chunk in site.chunks() {
        let name = chunk.file_name().unwrap().to_str().unwrap();
        let answer = server.ask(&token, &format!("GET /v1/chunks/{name}"));
        assert_eq!(answer, (200, std::fs::read(&chunk).unwrap()));
    }
}

#[test]
fn a_renamed_image_is_not_taken_for_its_successor() {
    let site = Site::new("api-rename", 1000);
    let server = site.server(&[]);
    let token = site.token();
    let manifest = |image: &str| server.ask(&token, &format!("GET /v1/images/{image}/1/manifest"));
    let old = manifest("gold");
    std::fs::rename(site.state.join("images/gold"), site.state.join("images/old")).unwrap();
    assert_eq!(manifest("gold").0, 404);
    site.second_version();
    let new = manifest("gold");
    assert_eq!(new.0, 200);
    assert_ne!(new.1, old.1);
    assert_eq!(manifest("old"), old);
}

#[test]
fn nonsense_is_refused_in_json() {
    let site = Site::new("api-nonsense", 1000);
    let server = site.server(&[]);
    let token = site.token();
    let zeros = "0".repeat(64);
    for (request, status, part) in [
        ("GET /v1/images/silver", 404, "there is no image silver"),
        (
            "GET /v1/images/gold/9/manifest",
            404,
            "image gold has no version 9; it has 1",
        ),
        ("GET /v1/images/gold/0/manifest", 400, "is not a version"),
        (
            "GET /v1/images/..%2f..%2fkeys/1/manifest",
            400,
            "is not an image name",
        ),
        ("GET /v1/images/%2e%2e/1/manifest", 400, "is not an image name"),
        ("GET /v1/images/%ff", 400, "UTF-8"),
        (
            "GET /v1/chunks/..%2f..%2fkeys%2fchunk.secret",
            400,
            "is not an identity",
        ),
        ("GET /v1/chunks/../../keys/token", 404, "there is no such path"),
        (
            &format!("GET /v1/chunks/{zeros}"),
            404,
            "is missing from the store",
        ),
        ("GET /v2/images", 404, "there is no such path"),
        ("DELETE /v1/images", 405, "does not do that"),
        ("POST /v1/sessions", 400, "no request for a session"),
    ] {
        let answer = server.ask(&token, request);
        assert_eq!(
            answer.0,
            status,
            "{request}: {}",
            String::from_utf8_lossy(&answer.1)
        );
        let error = error_of(&answer);
        assert!(error.contains(part), "{request}: {error}");
    }
    let post = |body: &str| server.post(&token, "/v1/sessions", body);
    let unknown = post(&format!("{{\"manifest\": \"{zeros}\"}}"));
    assert_eq!(unknown.0, 404, "{unknown:?}");
    assert!(error_of(&unknown).contains("there is no version with manifest 0000"));
    assert_eq!(post(&"x".repeat(5000)).0, 400);
}

#[test]
fn what_is_too_long_is_cut_off_and_others_are_served() {
    let site = Site::new("api-long", 1000);
    let server = site.server(&[]);
    let token = site.token();
    let long = "a".repeat(100_000);
    for request in [
        format!("GET /{long} HTTP/1.1\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nx: {long}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(200)),
        long.clone(),
        "\0\0\0\0\r\n\r\n".to_owned(),
    ] {
        let (status, _) = server.say(request.as_bytes());
        assert!(
            matches!(status, 0 | 400 | 414 | 431),
            "{status} for {:?}…",
            &request[..20.min(request.len())]
        );
    }
    assert_eq!(server.ask(&token, "GET /v1/status").0, 200);
}
