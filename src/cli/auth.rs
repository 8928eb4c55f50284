//! `login`, `logout` and `auth`.

use std::{process::ExitCode, sync::Arc, time::Instant};

use layerslayer::{
    AddressPolicy, Client, CredentialError, CredentialKind, CredentialStore, Credentials, PassphrasePurpose,
    RegistryKey, StoreKind,
};

use zeroize::Zeroizing;

use super::{
    args::account::{AccountCommon, AuthAction},
    console::Console,
    exit::{Exit, Failure},
    runtime,
    signals::TimeLimit,
};

pub(crate) mod helper;
mod login;
mod logout;
mod migrate;
pub(crate) mod password;
pub(crate) mod prompt;
mod status;

/// What all commands about credentials need.
struct Context<'a> {
    common: &'a AccountCommon,
    console: &'a Console,
    credentials: Credentials,
}

/// Runs a command about credentials.
pub(crate) fn main(action: &AuthAction) -> ExitCode {
    let started = Instant::now();
    let common = action.common();
    let console = Console::new(common.quiet, false);
    let context = Context { common, console: &console, credentials: credentials() };
    let result = match action {
        AuthAction::Login(arguments) => login::prepare(arguments, &context)
            .and_then(|prepared| block_on(login::run(arguments, prepared, &context))),
        AuthAction::Logout(arguments) => logout::run(arguments, &context),
        AuthAction::Migrate(arguments) => migrate::run(arguments, &context),
        AuthAction::Status(arguments) => block_on(status::run(arguments, &context)),
    };
    console.clear();
    if let Err(failure) = &result {
        failure.messages.iter().for_each(|message| console.error(message));
    }
    if common.verbose > 0 {
        console.note(&format!("{:.2} s", started.elapsed().as_secs_f64()));
    }
    ExitCode::from(result.err().map_or(Exit::Done, |failure| failure.exit).code())
}

fn block_on(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let time_limit = TimeLimit { started: Instant::now(), limit: None };
    runtime::block_on(command, time_limit, |_| {})
}

/// The user's credentials. The passphrase is requested on the terminal.
pub(crate) fn credentials() -> Credentials {
    Credentials::from_environment().ask_passphrase(|purpose| {
        let Some(terminal) = prompt::Terminal::open() else { return Ok(None) };
        let failed = |failure: Failure| {
            if failure.exit == Exit::Interrupted {
                // There is nothing to clean up yet.
                std::process::exit(Exit::Interrupted.code().into());
            }
            CredentialError::from_prompt(failure.messages.join("; "))
        };
        match purpose {
            PassphrasePurpose::New => {
                let first = terminal.hidden("New passphrase for the encrypted file: ").map_err(failed)?;
                let second = terminal.hidden("Repeat the passphrase: ").map_err(failed)?;
                match *first == *second {
                    true => Ok(Some(take(first))),
                    false => Err(CredentialError::from_prompt("the two passphrases differ")),
                }
            }
            _ => terminal.hidden("Passphrase for the encrypted file: ").map(take).map(Some).map_err(failed),
        }
    })
}

/// The default policy, with exceptions for these hosts.
pub(crate) fn address_policy(allowed: &[String]) -> AddressPolicy {
    allowed.iter().fold(AddressPolicy::new(), AddressPolicy::allow_host)
}

/// Moves a secret to a function that wipes it.
fn take(mut secret: Zeroizing<String>) -> String {
    std::mem::take(&mut secret)
}

/// Refuses a user name that Basic authentication cannot transmit (RFC 7617, section 2): the first colon ends it.
pub(crate) fn check_username(username: &str) -> Result<(), Failure> {
    match username.contains(':') || username.chars().any(char::is_control) {
        true => Err(Failure::usage(
            "a user name cannot contain a colon, a line break or another control character",
        )),
        false => Ok(()),
    }
}

impl Context<'_> {
    fn client(&self) -> Result<Client, Failure> {
        let mut builder = Client::builder()
            .plain_http(self.common.plain_http)
            .address_policy(address_policy(&self.common.allow_host))
            .progress(self.console.display())
            .credentials(self.credentials.clone());
        if let Some(file) = &self.common.ca {
            builder = builder.ca_file(file.clone());
        }
        Ok(builder.build()?)
    }

    /// The requested store, else the most secure one that works.
    fn store(&self, kind: Option<StoreKind>) -> Result<Arc<dyn CredentialStore>, Failure> {
        let store = match kind {
            Some(kind) => self.credentials.store(kind).map_err(failure),
            None => self.credentials.secure_store().map_err(|error| {
                failure(error).advise("`--store plaintext` stores the credential in plain text")
            }),
        };
        Ok(store?.into())
    }
}

/// Removes every kind of credential for a registry and returns whether there was one. A store may have entries that it cannot list.
fn erase(store: &dyn CredentialStore, registry: &RegistryKey) -> Result<bool, CredentialError> {
    let mut erased = false;
    for kind in [CredentialKind::IdentityToken, CredentialKind::Password, CredentialKind::RegistryToken] {
        erased |= store.delete(registry, kind)?;
    }
    Ok(erased)
}

/// The exit code and message for a store's error.
fn failure(error: CredentialError) -> Failure {
    let exit = match () {
        () if error.is_locked() => Exit::Unauthorized,
        () if error.is_usage() => Exit::Usage,
        () => Exit::Other,
    };
    Failure::new(exit, error.to_string())
}
