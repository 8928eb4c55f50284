use std::fs;

use secrecy::ExposeSecret as _;
use tempfile::TempDir;

use super::{super::key::HUB_URL as HUB_KEY, *};

fn find_in(directory: &Path, host: &str) -> Result<Option<Credential>, CredentialError> {
    let file = AuthFile::read(&directory.join("config.json"), Style::Docker)?;
    file.map_or(Ok(None), |file| file.find(&host.parse().unwrap(), None))
}

fn look(config: &str, host: &str) -> Result<Option<Credential>, CredentialError> {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("config.json"), config).unwrap();
    find_in(directory.path(), host)
}

fn basic(config: &str, host: &str) -> Option<(String, String)> {
    match look(config, host).unwrap()?.secret {
        Secret::Basic { username, password } => Some((username, password.expose_secret().to_owned())),
        _ => panic!("not user and password"),
    }
}

fn auths(key: &str, user_and_password: &[u8]) -> String {
    let encoded = base64::engine::general_purpose::STANDARD.encode(user_and_password);
    format!(r#"{{"auths":{{"{key}":{{"auth":"{encoded}"}}}},"credsStore":"","HttpHeaders":{{"X":"y"}}}}"#)
}

fn pair(username: &str, password: &str) -> Option<(String, String)> {
    Some((username.to_owned(), password.to_owned()))
}

#[test]
fn a_missing_file_or_directory_means_no_credential() {
    let directory = TempDir::new().unwrap();
    assert!(find_in(directory.path(), "host").unwrap().is_none());
    assert!(find_in(&directory.path().join("none"), "host").unwrap().is_none());
}

#[test]
fn passwords_may_contain_colons_and_outer_nuls_are_trimmed() {
    assert_eq!(basic(&auths("host", b"me:a:b:"), "host"), pair("me", "a:b:"));
    assert_eq!(basic(&auths("host", b"me:\0a\0b"), "host"), pair("me", "a\0b"));
    assert_eq!(basic(&auths("host", b"me:secret\0\0\0"), "host"), pair("me", "secret"));
}

#[test]
fn docker_hub_is_found_under_its_old_key_by_each_of_its_names() {
    for host in HUB_HOSTS {
        assert_eq!(basic(&auths(HUB_KEY, b"me:x"), host), pair("me", "x"));
        assert_eq!(basic(&auths("docker.io", b"me:x"), host), pair("me", "x"));
    }
    assert_eq!(basic(&auths(HUB_KEY, b"me:x"), "quay.io"), None);
}

#[test]
fn keys_match_by_host_and_port_without_scheme_and_path() {
    for key in ["host:5000", "https://host:5000", "http://host:5000/v2/", "HOST:5000/v1/"] {
        assert_eq!(basic(&auths(key, b"me:x"), "host:5000"), pair("me", "x"), "{key}");
    }
    assert_eq!(basic(&auths("host:5000", b"me:x"), "host"), None);
    assert_eq!(basic(&auths("host.example", b"me:x"), "host"), None);
}

#[test]
fn an_exact_key_wins_over_one_that_names_the_same_host() {
    let config = r#"{"auths":{"https://host/v1/":{"auth":"YTox"},"host":{"auth":"YjoyCg=="}}}"#;
    assert_eq!(basic(config, "host"), pair("b", "2\n"));
}

#[test]
fn an_empty_entry_means_that_a_helper_has_the_credential() {
    let error = look(r#"{"auths":{"host":{}},"credsStore":"no-such"}"#, "host").unwrap_err();
    assert!(error.to_string().contains("docker-credential-no-such is not installed"), "{error}");
    assert!(look(r#"{"auths":{"host":{}},"credsStore":""}"#, "host").unwrap().is_none());
    assert!(look(r#"{"auths":{"host":null}}"#, "host").unwrap().is_none());
    assert!(look(r#"{"auths":null}"#, "host").unwrap().is_none());
}

#[test]
fn identity_and_registry_tokens_are_distinguished() {
    let identity = r#"{"auths":{"host":{"auth":"MDAwMDo=","identitytoken":"refresh"}}}"#;
    let Secret::Identity { username, token } = look(identity, "host").unwrap().unwrap().secret else {
        panic!("no identity token")
    };
    assert_eq!((username.as_str(), token.expose_secret()), ("0000", "refresh"));
    let registry = r#"{"auths":{"host":{"registrytoken":"bearer"}}}"#;
    let Secret::Registry { token } = look(registry, "host").unwrap().unwrap().secret else {
        panic!("no registry token")
    };
    assert_eq!(token.expose_secret(), "bearer");
}

#[test]
fn the_error_for_a_malformed_file_does_not_quote_it() {
    let shown = look(r#"{"auths":{"host":"cGFzc3dvcmQ6aHVzaA=="}}"#, "host").unwrap_err().to_string();
    assert!(shown.contains("line 1, column") && !shown.contains("cGFzc3dv"), "{shown}");
    let shown = look(r#"{"auths":{"host":{"auth":"%hush%"}}}"#, "host").unwrap_err().to_string();
    assert!(shown.contains("\"host\"") && !shown.contains("hush"), "{shown}");
    assert!(look(&auths("host", b"no colon"), "host").is_err());
}

#[test]
fn a_malformed_entry_of_another_host_is_ignored() {
    let config = r#"{"auths":{"a":{"auth":"%"},"host":{"auth":"YTox"}}}"#;
    assert_eq!(basic(config, "host"), pair("a", "1"));
}

#[test]
fn field_names_count_in_any_case() {
    let config = r#"{"Auths":{"host":{"AUTH":"YTox"}}}"#;
    assert_eq!(basic(config, "host"), pair("a", "1"));
    let error = look(r#"{"CREDSSTORE":"no-such"}"#, "host").unwrap_err().to_string();
    assert!(error.contains("docker-credential-no-such"), "{error}");
    let error = look(r#"{"CredHelpers":{"host":"no-such"}}"#, "host").unwrap_err().to_string();
    assert!(error.contains("docker-credential-no-such"), "{error}");
    let token = look(r#"{"auths":{"host":{"IdentityToken":"refresh"}}}"#, "host").unwrap().unwrap();
    assert_eq!(token.expose_secret(), "refresh");
}

#[test]
fn base64_may_contain_line_breaks() {
    let password = "p".repeat(90);
    let encoded = base64::engine::general_purpose::STANDARD.encode(format!("me:{password}"));
    for line_break in ["\\n", "\\r\\n"] {
        let wrapped = format!("{}{line_break}{}{line_break}", &encoded[..76], &encoded[76..]);
        let config = format!(r#"{{"auths":{{"host":{{"auth":"{wrapped}"}}}}}}"#);
        assert_eq!(basic(&config, "host"), pair("me", &password));
    }
}

#[test]
fn repeated_keys_are_merged_as_go_merges_them() {
    // Maps grow, entries are replaced, fields are set again, null leaves a field and empties a map.
    let config = r#"{"auths":{"host":{"auth":"YTox"},"a":{"auth":"YTox"}},
        "auths":{"host":{"auth":"YjoyCg==","auth":"Yjoz","Auth":null}},"credsStore":"","credsStore":null}"#;
    assert_eq!(basic(config, "host"), pair("b", "3"));
    assert_eq!(basic(config, "a"), pair("a", "1"));
    let config = r#"{"auths":{"host":{"auth":"YTox"},"host":{"username":"c","password":"4"}}}"#;
    assert_eq!(basic(config, "host"), pair("c", "4"));
    assert_eq!(basic(r#"{"auths":{"host":{"auth":"YTox"}},"Auths":null}"#, "host"), None);
}

#[test]
fn an_empty_file_is_an_empty_configuration() {
    for text in ["", " \n", "null", "{}", "{} trailing"] {
        assert!(look(text, "host").unwrap().is_none(), "{text:?}");
    }
    assert!(look("[]", "host").is_err());
}

#[test]
fn a_directory_variable_that_names_a_file_is_an_error() {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("config.json"), "{}").unwrap();
    let error = find_in(&directory.path().join("config.json"), "host").unwrap_err().to_string();
    assert!(error.contains("is a file") && error.contains("DOCKER_CONFIG"), "{error}");
}

#[test]
fn a_fifo_in_place_of_a_file_is_an_error_and_not_waited_for() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("config.json");
    let mode = rustix::fs::Mode::RUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let error = find_in(directory.path(), "host").unwrap_err().to_string();
    assert!(error.contains("config.json: not a regular file"), "{error}");
}
