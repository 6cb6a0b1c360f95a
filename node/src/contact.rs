//! The first words with the server: who we are, who it is, what the version is.

use anyhow::{Context, Result, anyhow};
use simulcast_cli::{Console, Exit, Remark};
use simulcast_image::manifest::{SignatureError, SignedManifest, VerifyingKey};
use simulcast_protocol::exclusion::{NodeLists, UpdateScripts};
use simulcast_protocol::install::NodeName;
use simulcast_protocol::name::{ImageRef, Version};
use simulcast_transport::http::{Client, HttpError, Retry, credentials};

use super::ServerArgs;

impl ServerArgs {
    /// A client with the token that was given or found.
    ///
    /// # Errors
    /// When there is no token, or it cannot be read.
    pub fn client(&self, console: &Console) -> Result<Client> {
        let server = self
            .server
            .clone()
            .context("nobody says which image server is meant")
            .exit(Exit::Usage)
            .hint("--server URL, as in http://server:9440, or SI_SERVER in the environment")?;
        let token = credentials::token(
            self.token_file.as_deref(),
            self.token.as_ref(),
            &console.options().state,
        );
        let token = token.map_err(|error| {
            let hint = error.hint();
            remarked(Err::<(), _>(error).hint(hint).exit(Exit::Usage))
        })?;
        Ok(Client::new(server, token, Retry::BRIEF))
    }

    /// Fetches the manifest of an image and checks it with the pinned key, or with the one that the server offers if none is
    /// pinned. Returns it with the number of the version.
    ///
    /// # Errors
    /// When the server or the version cannot be had, or the signature is wrong.
    pub fn manifest(
        &self,
        client: &Client,
        image: &ImageRef,
        console: &Console,
    ) -> Result<(Version, SignedManifest)> {
        let pinned = pinned_key(self, console)?;
        let key = match pinned {
            Some(key) => key,
            None => offered_key(client, console)?,
        };
        let fetched = client.manifest(image).map_err(advise)?;
        let signed = SignedManifest::open(fetched.bytes, &key)
        .map_err(|error| match error {
            SignatureError::Wrong(_) => remarked(Err::<(), _>(error).hint(
                "if the server was set up anew, give its new key with --server-key; otherwise do not trust it",
            )),
            _ => error.into(),
        })
        .with_context(|| format!("cannot use the manifest of {}", image))?;
        if signed.id != fetched.id {
            return Err(anyhow!(
                "the server announces manifest {} and sends {}",
                fetched.id,
                signed.id
            ))
            .hint("a cache between may be out of date; ask the server itself");
        }
        Ok((fetched.version, signed))
    }

    /// The exclusion lists that the server has for a node with this image, the most specific first.
    ///
    /// # Errors
    /// When the server cannot be asked, or one of the lists is wrong there: nothing may be written or deleted without them.
    pub fn exclusions(
        &self,
        client: &Client,
        image: &ImageRef,
        node: Option<&NodeName>,
        console: &Console,
    ) -> Result<NodeLists> {
        let lists = client.exclusions(&image.name, node).map_err(advise)?;
        if let (Some(node), None) = (node, &lists.node) {
            console.say(format_args!(
                "the server knows no node {node}: lists of nodes and groups do not hold here; --node names another"
            ));
        }
        Ok(lists)
    }

    /// What the site runs on this machine around an update.
    ///
    /// # Errors
    /// When the server cannot be asked, or one of the scripts cannot be used there.
    pub fn update_scripts(&self, client: &Client) -> Result<UpdateScripts> {
        client.update_scripts().map_err(advise)
    }
}

impl ServerArgs {
    /// The key that checks what the server signs, once it has been taken for a manifest.
    pub(super) fn key(&self, client: &Client, console: &Console) -> Result<VerifyingKey> {
        match pinned_key(self, console)? {
            Some(key) => Ok(key),
            None => client
                .key()
                .map_err(advise)?
                .key
                .parse()
                .context("the server offers no good key"),
        }
    }
}

fn pinned_key(args: &ServerArgs, console: &Console) -> Result<Option<VerifyingKey>> {
    if args.server_key.is_some() {
        return Ok(args.server_key);
    }
    let state = &console.options().state;
    let text = credentials::server_key(state).exit(Exit::Usage)?;
    let key = text.map(|text| text.parse::<VerifyingKey>()).transpose();
    key.with_context(|| format!("cannot use {}", state.join("keys/signing.pub").display()))
        .exit(Exit::Usage)
}

fn offered_key(client: &Client, console: &Console) -> Result<VerifyingKey> {
    let key = client.key().map_err(advise)?.key;
    let parsed = key.parse().context("the server offers no good key")?;
    console.say(format_args!(
        "no key is pinned; taking the one that the server offers: {key}"
    ));
    Ok(parsed)
}

/// Adds to an error what the operator can do about it.
pub(super) fn advise(error: HttpError) -> anyhow::Error {
    let hint = error.hint();
    if hint.is_empty() {
        return error.into();
    }
    remarked(Err::<(), _>(error).hint(hint))
}

/// The error of a result that is one.
fn remarked(result: Result<()>) -> anyhow::Error {
    result.expect_err("it was made from an error")
}
