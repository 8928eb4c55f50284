//! `login`: ask, verify, store.

use std::io;

use layerslayer::{Client, Credential, CredentialKind, CredentialStore, Login, StoreKind};

use super::{Context, erase, failure, prompt::Terminal};
use crate::cli::{
    args::account::LoginArguments,
    connect,
    exit::{Exit, Failure},
};

/// Where GitHub signs people in.
const GITHUB: &str = "https://github.com";

/// The registry that GitHub's sign-in is for.
const GITHUB_REGISTRY: &str = "ghcr.io";

/// What was asked for before anything began.
pub(super) struct Answers {
    /// `None` with `--device`.
    credential: Option<Credential>,
}

/// Asks for what the command line does not say.
pub(super) fn ask(arguments: &LoginArguments) -> Result<Answers, Failure> {
    if arguments.pin_realm && arguments.store == Some(StoreKind::DockerConfig) {
        return Err(Failure::usage(
            "--pin-realm: docker's configuration has no place for it; choose another store",
        ));
    }
    if arguments.device {
        check_device(arguments)?;
        return Ok(Answers { credential: None });
    }
    let terminal = || {
        Terminal::open().ok_or_else(|| {
            Failure::usage("there is no terminal to ask at: give --username and --password-stdin")
        })
    };
    let username = match &arguments.username {
        Some(username) => username.clone(),
        None => terminal()?.visible(&format!("User name for {}: ", arguments.registry))?,
    };
    if username.is_empty() {
        return Err(Failure::usage("no user name was given"));
    }
    let password = match arguments.password_stdin {
        true => connect::password(io::stdin().lock())?,
        false => terminal()?.hidden("Password or token: ")?,
    };
    Ok(Answers { credential: Some(Credential::basic(username, password)) })
}

/// Logs in.
pub(super) async fn run(
    arguments: &LoginArguments,
    answers: Answers,
    context: &Context<'_>,
) -> Result<(), Failure> {
    let registry = &arguments.registry;
    // Nobody shall type a password, or show it to anybody, that can be kept nowhere.
    let store = tokio::task::block_in_place(|| context.store(arguments.store))?;
    let client = context.client()?;
    let credential = match answers.credential {
        Some(credential) => credential,
        None => sign_in(arguments, &client, context).await?,
    };
    let login = client.log_in(registry, &credential).await.map_err(|error| {
        let failure = Failure::from(error);
        if failure.exit == Exit::Unauthorized { failure.advise("nothing was stored") } else { failure }
    })?;
    if !login.is_verified {
        let warning = format!("{registry} lets everybody in, so the credential could not be verified");
        context.console.warning(&warning);
    }
    let credential = chosen(arguments, login);
    tokio::task::block_in_place(|| keep(arguments, &credential, store.as_ref(), context))
}

/// What is to be stored.
fn chosen(arguments: &LoginArguments, login: Login) -> Credential {
    if arguments.pin_realm { login.pinned() } else { login.credential }
}

/// Stores it, and removes what would count before it or could be mistaken for it.
fn keep(
    arguments: &LoginArguments,
    credential: &Credential,
    store: &dyn CredentialStore,
    context: &Context<'_>,
) -> Result<(), Failure> {
    let registry = &arguments.registry;
    store.store(registry, credential).map_err(failure)?;
    let place = store.place();
    for other in context.sources.stores() {
        let is_same = other.place() == place;
        let result = match is_same {
            true => erase_others(other.as_ref(), arguments, credential.kind()),
            false => erase(other.as_ref(), registry),
        };
        // A keyring that is not there holds nothing.
        if let Err(error) = result
            && !error.is_unavailable()
        {
            let problem =
                format!("{} may still hold an older credential for {registry}: {error}", other.place());
            context.console.warning(&problem);
        }
    }
    let who = match credential.username() {
        "" => String::new(),
        user => format!(" as {user}"),
    };
    let what = match credential.kind() {
        CredentialKind::IdentityToken => {
            format!("its identity token is in {place}, the password is kept nowhere")
        }
        _ => format!("it issues no identity token, so the password itself is in {place}"),
    };
    context.console.note(&format!("logged in to {registry}{who}; {what}"));
    let in_the_clear = match arguments.store {
        Some(StoreKind::Plaintext) => true,
        Some(StoreKind::DockerConfig) => !store.list().map_err(failure)?.is_empty(),
        _ => false,
    };
    if in_the_clear {
        context.console.warning(&format!("{place} holds it in the clear"));
    }
    let candidates = context.sources.candidates(registry);
    if let Some(first) =
        candidates.first().filter(|first| !first.place.contains(&place) && !is_shared(arguments))
    {
        context.console.warning(&format!("{} counts before it", first.place));
    }
    Ok(())
}

/// Whether the store may be a helper, which goes by another name.
fn is_shared(arguments: &LoginArguments) -> bool {
    arguments.store == Some(StoreKind::DockerConfig)
}

/// Removes what the same store has of other kinds.
fn erase_others(
    store: &dyn CredentialStore,
    arguments: &LoginArguments,
    kind: CredentialKind,
) -> Result<bool, layerslayer::CredentialError> {
    let registry = &arguments.registry;
    let mut erased = false;
    for entry in store.list()?.into_iter().filter(|entry| entry.registry == *registry && entry.kind != kind) {
        erased |= store.delete(registry, entry.kind)?;
    }
    Ok(erased)
}

/// Whether the command line says all that signing in with a device code takes.
fn check_device(arguments: &LoginArguments) -> Result<(), Failure> {
    let registry = &arguments.registry;
    if registry.as_str() != GITHUB_REGISTRY && arguments.device_server.is_none() {
        return Err(Failure::usage(format!(
            "--device signs in at GitHub, for {GITHUB_REGISTRY}; for {registry} say --device-server URL"
        )));
    }
    if arguments.client_id.as_deref().unwrap_or_default().is_empty() {
        return Err(Failure::usage(
            "--device needs the client id of an OAuth application: give --client-id or \
             LAYERSLAYER_GITHUB_CLIENT_ID",
        ));
    }
    Ok(())
}

/// Signs in with a device code.
async fn sign_in(
    arguments: &LoginArguments,
    client: &Client,
    context: &Context<'_>,
) -> Result<Credential, Failure> {
    let client_id = arguments.client_id.as_deref().unwrap_or_default();
    let server = arguments.device_server.as_deref().unwrap_or(GITHUB);
    let sign_in = client.device_sign_in(server, client_id).await?;
    context.console.error(&format!("type {} at {}", sign_in.user_code(), sign_in.verification_uri()));
    let credential = sign_in.wait().await?;
    let username = match (&arguments.username, credential.username()) {
        (Some(given), _) => given,
        (None, "") => {
            return Err(Failure::usage("the server does not tell the user's name: give --username"));
        }
        (None, told) => told,
    };
    Ok(Credential::basic(username, credential.secret().clone()))
}
