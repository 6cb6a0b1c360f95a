//! Nodes as the image server reaches them: our program on each, run over ssh as the golden client's agent is.

use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, anyhow};
use simulcast_cli::{Console, Exit, Remark};
use simulcast_protocol::api::{PORT, Token};

use crate::daemon::{Overrides, Settings};
use crate::golden::{Agent, Golden, NO_AGENT, PLACE, Streams, agent_program};

/// What a node's program says when it does not know the command: it is an older one.
pub(crate) const USAGE: i32 = 2;

/// What a script on a node begins with: `SI_TOKEN` from stdin, where nobody sees it; `$s`, the address of the image server as the
/// node reaches it, which is where ssh comes from unless `server` says otherwise; `$si`, our program there.
///
/// # Errors
/// When `server` is no address, or the settings cannot be read.
pub(crate) fn preamble(server: Option<&str>, console: &Console) -> Result<String> {
    let server = match server {
        Some(url) => {
            let safe = |c: char| c.is_ascii_alphanumeric() || ":/.[]-_%".contains(c);
            if url.starts_with('-') || !url.chars().all(safe) {
                return Err(anyhow!("{url:?} is no address of an image server")).exit(Exit::Usage);
            }
            format!("s='{url}'")
        }
        None => {
            let settings = Settings::load(&console.options().config, Overrides::default())?;
            let port = settings.listen.map_or(PORT, |listen| listen.port());
            format!("h=${{SSH_CONNECTION%% *}}; case $h in *:*) h=\"[$h]\";; esac; s=\"http://$h:{port}\"")
        }
    };
    Ok(format!(
        "IFS= read -r SI_TOKEN; export SI_TOKEN; {server}; \
         if [ -z \"$si\" ]; then if [ -x {PLACE}/si-client ]; then si={PLACE}/si-client; \
         elif command -v si-client >/dev/null 2>&1; then si=si-client; else exit {NO_AGENT}; fi; fi; "
    ))
}

/// Starts a script on a node and gives it the token.
pub(crate) fn start(node: &Golden, token: &Token, script: &str) -> Result<(Agent, Streams)> {
    let (agent, (from, mut to)) = node.run(script)?;
    // One that has ended already is asked later why.
    drop(writeln!(to, "{}", token.reveal()).and_then(|()| to.flush()));
    Ok((agent, (from, to)))
}

/// Copies our program to a node that has none that can do what is wanted. Returns what makes a script use it.
pub(crate) fn equip(node: &Golden, console: &Console) -> Result<String> {
    console.say(format_args!("copying si-client to {}", node.host()));
    node.copy_agent(&agent_program()?)?;
    Ok(format!("si={PLACE}/si-client; "))
}

/// The token of the server that runs here.
///
/// # Errors
/// When there is none.
pub(crate) fn token(console: &Console) -> Result<Token> {
    let path = console.options().state.join("keys").join("token");
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read the token {}", path.display()))
        .hint("run this on the image server, as root, with si-server running")?;
    text.parse()
        .with_context(|| format!("cannot use the token {}", path.display()))
}

/// Does something about each of `things`, `at_once` at a time; the results are in their order.
pub(crate) fn each<T: Sync, R: Send>(things: &[T], at_once: usize, act: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let (next, results) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..things.len().min(at_once) {
            scope.spawn(|| {
                loop {
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    let Some(thing) = things.get(place) else { break };
                    let result = act(thing);
                    results.lock().expect("no holder panics").push((place, result));
                }
            });
        }
    });
    let mut results = results.into_inner().expect("no holder panics");
    results.sort_by_key(|(place, _)| *place);
    results.into_iter().map(|(_, result)| result).collect()
}
