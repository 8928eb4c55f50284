//! Logging in and out, and what there is to see and to move of credentials.

use std::{process::ExitCode, sync::Arc, time::Instant};

use layerslayer::{
    Client, CredentialError, CredentialKind, CredentialSources, CredentialStore, PassphrasePurpose,
    RegistryKey, StoreKind,
};

use super::{
    args::account::{AccountCommon, AuthAction},
    console::Console,
    exit::{Exit, Failure},
    runtime,
};

pub(crate) mod helper;
mod login;
mod logout;
mod migrate;
pub(crate) mod password;
pub(crate) mod prompt;
mod status;

/// What a command about credentials works with.
struct Context<'a> {
    common: &'a AccountCommon,
    console: &'a Console,
    sources: CredentialSources,
}

/// Runs a command about credentials.
pub(crate) fn main(action: &AuthAction) -> ExitCode {
    let started = Instant::now();
    let common = action.common();
    let console = Console::new(common.quiet, false);
    let context = Context { common, console: &console, sources: sources() };
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
    runtime::block_on(command, |_| {})
}

/// Where credentials are looked for; whoever is at the terminal is asked for the passphrase.
pub(crate) fn sources() -> CredentialSources {
    CredentialSources::new().ask_passphrase(|purpose| {
        let Some(terminal) = prompt::Terminal::open() else { return Ok(None) };
        let failed = |failure: Failure| {
            if failure.exit == Exit::Interrupted {
                // Nothing has begun yet that would have to be taken back.
                std::process::exit(Exit::Interrupted.code().into());
            }
            CredentialError::from_prompt(failure.messages.join("; "))
        };
        match purpose {
            PassphrasePurpose::New => {
                let first = terminal.hidden("New passphrase for the encrypted file: ").map_err(failed)?;
                let second = terminal.hidden("Once more: ").map_err(failed)?;
                match prompt::is_same(&first, &second) {
                    true => Ok(Some(first)),
                    false => Err(CredentialError::from_prompt("the two passphrases differ")),
                }
            }
            _ => terminal.hidden("Passphrase for the encrypted file: ").map(Some).map_err(failed),
        }
    })
}

impl Context<'_> {
    fn client(&self) -> Result<Client, Failure> {
        let mut builder = Client::builder()
            .plain_http(self.common.plain_http)
            .progress(self.console.display())
            .credential_sources(self.sources.clone());
        if let Some(file) = &self.common.ca {
            builder = builder.ca_file(file.clone());
        }
        Ok(builder.build()?)
    }

    /// The store that was asked for, else the most secure one that works.
    fn store(&self, kind: Option<StoreKind>) -> Result<Arc<dyn CredentialStore>, Failure> {
        let store = match kind {
            Some(kind) => self.sources.store(kind),
            None => self.sources.secure_store(),
        };
        Ok(store.map_err(failure)?.into())
    }
}

/// Removes every kind of credential of a registry; whether there was any. A store may hold what it cannot list.
fn erase(store: &dyn CredentialStore, registry: &RegistryKey) -> Result<bool, CredentialError> {
    let mut erased = false;
    for kind in [CredentialKind::IdentityToken, CredentialKind::Password, CredentialKind::RegistryToken] {
        erased |= store.delete(registry, kind)?;
    }
    Ok(erased)
}

/// How the program ends for what went wrong with a store.
fn failure(error: CredentialError) -> Failure {
    let exit = match () {
        () if error.is_locked() => Exit::Unauthorized,
        () if error.is_usage() => Exit::Usage,
        () => Exit::Other,
    };
    Failure::new(exit, error.to_string())
}
