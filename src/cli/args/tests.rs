use clap::CommandFactory as _;

use super::*;

fn parsed(arguments: &[&str]) -> Result<Command, clap::Error> {
    parse(arguments.iter().map(Into::into)).map(|arguments| match arguments.invocation {
        Invocation::Image(command) => command,
        other => panic!("not a command for images: {other:?}"),
    })
}

fn refused(arguments: &[&str]) -> String {
    let error = parsed(arguments).unwrap_err();
    assert_eq!(error.exit_code(), 2, "{arguments:?}");
    error.to_string()
}

#[test]
fn the_definition_is_valid() {
    Arguments::command().debug_assert();
}

#[test]
fn the_program_name_can_be_the_subcommand() {
    for name in ["peek", "/usr/local/bin/peek"] {
        let Ok(Command::Peek(arguments)) = parsed(&[name, "image", "--all"]) else { panic!("not peek") };
        assert_eq!((arguments.image.as_str(), arguments.all), ("image", true));
    }
    let Ok(Command::Carve(arguments)) = parsed(&["./carve", "image", "/a"]) else { panic!("not carve") };
    assert_eq!(arguments.paths, ["/a"]);
    let usage = parsed(&["carve", "--help"]).unwrap_err().to_string();
    assert!(usage.contains("Usage: carve [OPTIONS] <IMAGE>"), "{usage}");
}

#[test]
fn help_and_version_are_not_failures() {
    for arguments in [&["layerslayer", "--help"][..], &["layerslayer", "--version"], &["peek", "--version"]] {
        assert_eq!(parsed(arguments).unwrap_err().exit_code(), 0, "{arguments:?}");
    }
    let help = parsed(&["layerslayer", "--help"]).unwrap_err().to_string();
    assert!(help.contains("layerslayer carve ubuntu:24.04 /etc/passwd"), "{help}");
}

#[test]
fn a_misspelt_subcommand_suggests_the_right_one() {
    let message = refused(&["layerslayer", "peak", "image"]);
    assert!(message.contains("'peek'"), "{message}");
}

#[test]
fn verify_takes_a_level_only_after_an_equals_sign() {
    let verify = |arguments: &[&str]| {
        let all = [&["layerslayer", "carve"], arguments].concat();
        parsed(&all).map(|command| command.common().verify)
    };
    assert_eq!(verify(&["image", "a"]).unwrap(), None);
    assert_eq!(verify(&["--verify", "image", "a"]).unwrap(), Some(Verify::Span));
    assert_eq!(verify(&["--verify=blob", "image", "a"]).unwrap(), Some(Verify::Blob));
    assert_eq!(verify(&["--verify=chunk", "image", "a"]).unwrap(), Some(Verify::Chunk));
    assert_eq!(verify(&["--verify=span", "image", "a"]).unwrap(), Some(Verify::Span));
    assert!(verify(&["--verify=rumour", "image", "a"]).is_err());
}

#[test]
fn username_and_password_stdin_require_each_other() {
    refused(&["layerslayer", "peek", "image", "--username", "me"]);
    refused(&["layerslayer", "peek", "image", "--password-stdin"]);
    assert!(parsed(&["layerslayer", "peek", "image", "--username", "me", "--password-stdin"]).is_ok());
}

#[test]
fn contradictory_arguments_are_refused() {
    let cases: [&[&str]; 10] = [
        &["layerslayer"],
        &["layerslayer", "peek"],
        &["layerslayer", "peek", "image", "--all", "--rootfs"],
        &["layerslayer", "peek", "image", "--all", "--layer", "0"],
        &["layerslayer", "peek", "image", "--rootfs", "--layer", "0"],
        &["layerslayer", "peek", "image", "-q", "-v"],
        &["layerslayer", "carve", "image"],
        &["layerslayer", "carve", "image", "a", "--glob", "b"],
        &["layerslayer", "carve", "image", "a", "--same-permissions"],
        &["layerslayer", "carve", "image", "a", "--devices"],
    ];
    for arguments in cases {
        refused(arguments);
    }
}

#[test]
fn cache_sizes_may_have_a_suffix() {
    let gc = |size| {
        let arguments = ["layerslayer", "cache", "gc", "--size", size].map(OsString::from);
        parse(arguments).map(|arguments| arguments.invocation)
    };
    assert!(matches!(
        gc("3K"),
        Ok(Invocation::Cache(CacheArguments { action: CacheAction::Gc { size: Some(3072) } }))
    ));
    for refused in ["", "-1", "3T", "lots"] {
        assert_eq!(gc(refused).unwrap_err().exit_code(), 2, "{refused}");
    }
}

#[test]
fn max_bytes_may_have_a_suffix() {
    let limit =
        |bytes| parsed(&["peek", "image", "--max-bytes", bytes]).map(|command| command.common().max_bytes);
    assert_eq!((limit("0").unwrap(), limit("3M").unwrap()), (Some(0), Some(3 << 20)));
    assert_eq!(limit("much").unwrap_err().exit_code(), 2);
}

#[test]
fn a_timeout_is_a_number_with_a_unit() {
    let timeout =
        |text| parsed(&["peek", "image", "--timeout", text]).map(|command| command.common().timeout);
    for (text, milliseconds) in
        [("5", 5_000), ("5s", 5_000), ("250ms", 250), ("2m", 120_000), ("1h", 3_600_000)]
    {
        assert_eq!(timeout(text).unwrap(), Some(Duration::from_millis(milliseconds)), "{text}");
    }
    for text in [
        "",
        "0",
        "0ms",
        "s",
        "-1",
        "1.5s",
        "5 s",
        "5d",
        "721h",
        "18446744073709551616ms",
        "5124095576030432h",
    ] {
        assert_eq!(timeout(text).unwrap_err().exit_code(), 2, "{text}");
    }
}

#[test]
fn layer_is_repeatable_for_peek_only() {
    let Ok(Command::Peek(arguments)) = parsed(&["peek", "image", "--layer", "0", "--layer", "sha256:abcdef"])
    else {
        panic!("not peek")
    };
    assert_eq!(arguments.layers, ["0", "sha256:abcdef"]);
    refused(&["carve", "image", "a", "--layer", "0", "--layer", "1"]);
}

#[test]
fn paths_may_be_any_bytes() {
    use std::os::unix::ffi::OsStrExt as _;
    let path = OsStr::from_bytes(b"/etc/\xff");
    let arguments = ["carve".into(), "image".into(), path.to_owned()];
    let Ok(Arguments { invocation: Invocation::Image(Command::Carve(arguments)) }) = parse(arguments) else {
        panic!("not carve")
    };
    assert_eq!(arguments.paths, [path]);
}
