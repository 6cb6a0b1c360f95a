//! `si-token`.

use anyhow::{Result, anyhow};
use serde_json::json;
use simulcast_cli::{Align, Console, Exit, Remark, Table};
use simulcast_protocol::api::Token;
use simulcast_protocol::name::ImageName;

use super::nodes::{self, DryRun};
use crate::state::{OperatorName, OperatorRecord, Role, State, TokenHash};
use crate::text::{Utc, now};

/// Tokens of operators, with what each may do and see
///
/// The token in keys/token of the state directory opens everything; whoever can read that file is the local admin. These are
/// for everybody else.
#[derive(Debug, clap::Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    Add(AddArgs),
    List,
    Revoke(RevokeArgs),
}

/// Make a token for an operator, and print it: it is kept as a hash, and cannot be shown again
#[derive(Debug, clap::Args)]
struct AddArgs {
    /// Who will have it
    #[arg(value_name = "NAME")]
    name: OperatorName,

    /// What they may do
    #[arg(long)]
    role: Role,

    /// The only nodes that they see; groups are looked up whenever they ask
    #[arg(long, value_name = "NODES")]
    nodes: Option<String>,

    /// The only images that they see
    #[arg(long, value_name = "IMAGE", value_delimiter = ',')]
    images: Option<Vec<ImageName>>,

    /// Days until it opens nothing any more
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u16).range(1..=3650))]
    expires: Option<u16>,

    #[command(flatten)]
    dry_run: DryRun,
}

/// Take an operator's token away: their next request is refused
#[derive(Debug, clap::Args)]
struct RevokeArgs {
    /// Whose
    #[arg(value_name = "NAME")]
    name: OperatorName,

    #[command(flatten)]
    dry_run: DryRun,
}

/// Does what `si-token` is asked for.
///
/// # Errors
/// When it cannot be done.
pub(crate) fn run(args: Args, console: &Console) -> Result<Exit> {
    match args.what {
        What::Add(args) => add(args, console),
        What::List => list(console),
        What::Revoke(args) => revoke(&args, console),
    }
}

fn add(args: AddArgs, console: &Console) -> Result<Exit> {
    if let Some(text) = &args.nodes {
        nodes::names(&nodes::inventory(console)?, text)?;
    }
    let made = now();
    let operator = OperatorRecord {
        name: args.name,
        role: args.role,
        nodes: args.nodes,
        images: args.images,
        made,
        expires: args.expires.map(|days| made + i64::from(days) * 24 * 3600),
    };
    let name = &operator.name;
    let exists = || Err(anyhow!("operator {name} has a token")).hint("si-token revoke takes it away");
    if args.dry_run.dry_run {
        let there = nodes::look(console)?
            .operators()?
            .iter()
            .any(|other| other.name == *name);
        if there {
            return exists();
        }
        console.say(format_args!("would make a token for {name}"));
        return Ok(Exit::Done);
    }
    let key = crate::store::open(console)?.verifying_key().to_string();
    let token = Token::from_bytes(rand::random());
    let state = State::open(&console.options().state)?;
    if !state.add_operator(&operator, TokenHash::of(&token))? {
        return exists();
    }
    if console.json() {
        console.print_json(&json!({ "operator": operator, "token": token, "key": key }))?;
    } else {
        console.say(format_args!(
            "the token of {name}, which is shown this once, and the server's key:"
        ));
        console.line(format_args!("SI_TOKEN={}", token.reveal()))?;
        console.line(format_args!("SI_SERVER_KEY={key}"))?;
    }
    Ok(Exit::Done)
}

fn list(console: &Console) -> Result<Exit> {
    let operators = nodes::look(console)?.operators()?;
    if console.json() {
        console.print_json(&operators)?;
        return Ok(Exit::Done);
    }
    if operators.is_empty() {
        console.say("no operator has a token but that of the state directory");
        return Ok(Exit::Done);
    }
    let columns = ["OPERATOR", "ROLE", "NODES", "IMAGES", "MADE", "EXPIRES"];
    let mut table = Table::new(&columns.map(|name| (name, Align::Left)));
    for operator in operators {
        let images = operator.images.map(|images| {
            let names: Vec<_> = images.iter().map(ImageName::as_str).collect();
            names.join(",")
        });
        table.row([
            operator.name.to_string(),
            operator.role.as_str().to_owned(),
            operator.nodes.unwrap_or_else(|| "all".to_owned()),
            images.unwrap_or_else(|| "all".to_owned()),
            Utc(operator.made).to_string(),
            operator
                .expires
                .map_or_else(|| "never".to_owned(), |at| Utc(at).to_string()),
        ]);
    }
    console.table(&table)?;
    Ok(Exit::Done)
}

fn revoke(args: &RevokeArgs, console: &Console) -> Result<Exit> {
    let name = &args.name;
    let (there, verb) = if args.dry_run.dry_run {
        let operators = nodes::look(console)?.operators()?;
        (
            operators.iter().any(|operator| operator.name == *name),
            "would revoke",
        )
    } else {
        (
            State::open(&console.options().state)?.revoke_operator(name)?,
            "revoked",
        )
    };
    if !there {
        return Err(anyhow!("no operator {name} has a token")).hint("si-token list tells who has one");
    }
    if console.json() {
        console.print_json(&json!({ "revoked": name, "dry_run": args.dry_run.dry_run }))?;
    } else {
        console.line(format_args!("{verb} the token of {name}"))?;
    }
    Ok(Exit::Done)
}
