//! `si-layout`.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use serde_json::json;
use simulcast_cli::{Console, Exit, Remark};
use simulcast_image::layout::{Label, Layout};
use simulcast_protocol::name::ImageRef;

/// Where layouts are, below the configuration directory.
const DIRECTORY: &str = "layouts.d";

/// Source fact of a version: what si-prepareclient recorded of the golden client.
const RECORD: &str = "machine";

/// Show, check and edit layouts of disks
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Print a layout: one of layouts.d by its name, or the one that was recorded with an image
    Show {
        /// The layout
        #[arg(value_name = "NAME", required_unless_present = "image")]
        name: Option<Label>,

        /// Of the golden client that this image was captured from; save it in layouts.d to change it
        #[arg(long, value_name = "IMAGE[@V]", conflicts_with = "name")]
        image: Option<ImageRef>,
    },
    /// Say whether layouts make sense
    Check {
        /// Files; all of layouts.d when left out
        #[arg(value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Change a layout with $EDITOR; it is replaced only by one that makes sense
    Edit {
        /// The layout; a new one begins as the one that --image has
        #[arg(value_name = "NAME")]
        name: Label,

        /// Begin with the layout that was recorded with this image
        #[arg(long, value_name = "IMAGE[@V]")]
        image: Option<ImageRef>,
    },
}

pub(crate) fn run(args: Args, console: &Console) -> Result<Exit> {
    match args.command {
        Command::Show { name: Some(name), .. } => show_file(&name, console),
        Command::Show {
            image: Some(image), ..
        } => {
            let text = recorded(&image, console)?;
            print(&text, &Layout::parse(&text)?, console)
        }
        Command::Show { .. } => Err(anyhow!("name a layout or an image")).exit(Exit::Usage),
        Command::Check { files } => check(files, console),
        Command::Edit { name, image } => edit(&name, image.as_ref(), console),
    }
}

fn path_of(name: &Label, console: &Console) -> PathBuf {
    console
        .options()
        .config
        .join(DIRECTORY)
        .join(format!("{name}.toml"))
}

fn show_file(name: &Label, console: &Console) -> Result<Exit> {
    let path = path_of(name, console);
    let text = fs::read_to_string(&path)
        .with_context(|| format!("cannot read layout {name} from {}", path.display()))
        .exit(Exit::Usage)
        .hint(
            "si-layout check lists those that there are; si-layout show --image IMAGE shows a recorded one",
        )?;
    let layout = parse(&text, &path)?;
    print(&text, &layout, console)
}

fn print(text: &str, layout: &Layout, console: &Console) -> Result<Exit> {
    if console.json() {
        console.print_json(layout)?;
    } else {
        console.data(|out| out.write_all(text.as_bytes()))?;
    }
    Ok(Exit::Done)
}

fn parse(text: &str, path: &Path) -> Result<Layout> {
    let parsed = Layout::parse(text).map_err(anyhow::Error::from);
    parsed
        .with_context(|| path.display().to_string())
        .exit(Exit::Usage)
}

/// The layout of the golden client that an image was captured from, as text.
fn recorded(image: &ImageRef, console: &Console) -> Result<String> {
    let version = crate::store::open(console)?.load(image)?;
    let record = version.signed.manifest.info.source.get(RECORD);
    let record = record
        .ok_or_else(|| {
            anyhow!(
                "{} has no record of its golden client's disks",
                version.reference()
            )
        })
        .hint("run si-prepareclient on the golden client and capture it again, or write a layout by hand")?;
    let derived = Layout::from_machine(record)
        .with_context(|| format!("cannot make a layout for {}", version.reference()))?;
    derived
        .notes
        .iter()
        .for_each(|note| console.say(format_args!("note: {note}")));
    Ok(derived.layout.to_toml())
}

fn check(files: Vec<PathBuf>, console: &Console) -> Result<Exit> {
    let files = if files.is_empty() { all(console)? } else { files };
    let mut results = Vec::new();
    let mut exit = Exit::Done;
    for path in files {
        let read = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()));
        let error = read
            .and_then(|text| parse(&text, &path))
            .err()
            .map(|error| format!("{error:#}"));
        if let Some(error) = &error {
            exit = Exit::Usage;
            console.say(format_args!("error: {error}"));
        } else if !console.json() {
            console.line(format_args!("{}: makes sense", path.display()))?;
        }
        results.push(json!({ "file": path.display().to_string(), "error": error }));
    }
    if console.json() {
        console.print_json(&results)?;
    }
    Ok(exit)
}

/// All layouts of the configuration, by name.
fn all(console: &Console) -> Result<Vec<PathBuf>> {
    let directory = console.options().config.join(DIRECTORY);
    let entries = match fs::read_dir(&directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            console.say(format_args!("there is no {}", directory.display()));
            return Ok(Vec::new());
        }
        entries => entries.with_context(|| format!("cannot read {}", directory.display()))?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry
            .with_context(|| format!("cannot read {}", directory.display()))?
            .path();
        if path.extension().is_some_and(|kind| kind == "toml") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn edit(name: &Label, image: Option<&ImageRef>, console: &Console) -> Result<Exit> {
    let path = path_of(name, console);
    let old = match (image, fs::read_to_string(&path)) {
        (Some(_), Ok(_)) => {
            return Err(anyhow!("{} is there already", path.display()))
                .exit(Exit::Usage)
                .hint("leave --image away to change it, or choose another name");
        }
        (Some(image), Err(_)) => recorded(image, console)?,
        (None, Ok(text)) => text,
        (None, Err(error)) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(anyhow!("there is no layout {name}"))
                .exit(Exit::Usage)
                .hint("begin with the one of an image: si-layout edit NAME --image IMAGE");
        }
        (None, Err(error)) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let directory = path.parent().context("a layout lies in a directory")?;
    fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    // Not named .toml, so that nobody takes it for a layout meanwhile.
    let draft = path.with_extension("edit");
    let attempt = || format!("cannot write {}", draft.display());
    fs::write(&draft, &old).with_context(attempt)?;
    editor(&draft)?;
    let new = fs::read_to_string(&draft).with_context(|| format!("cannot read {}", draft.display()))?;
    parse(&new, &draft).hint(format!(
        "nothing was changed; your text is in {}: correct it, check it with si-layout check, and move it to {}",
        draft.display(),
        path.display()
    ))?;
    File::open(&draft)
        .and_then(|file| file.sync_all())
        .with_context(attempt)?;
    fs::rename(&draft, &path).with_context(|| format!("cannot replace {}", path.display()))?;
    console.say(format_args!("wrote {}", path.display()));
    Ok(Exit::Done)
}

/// Runs the operator's editor, with arguments if it has any.
fn editor(path: &Path) -> Result<()> {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
    let line = set("VISUAL").or(set("EDITOR")).unwrap_or_else(|| "vi".to_owned());
    let mut words = line.split_whitespace();
    let program = words.next().unwrap_or("vi");
    #[expect(
        clippy::disallowed_methods,
        reason = "an editor has the terminal: nothing of it is collected, and it has no time-out"
    )]
    let mut command = std::process::Command::new(program);
    let status = command
        .args(words)
        .arg(path)
        .status()
        .with_context(|| format!("cannot start the editor {program}"))
        .hint("set EDITOR to one that is installed")?;
    if status.success() {
        return Ok(());
    }
    Err(anyhow!("the editor {program} ended with {status}"))
        .hint(format!("nothing was changed; your text is in {}", path.display()))
}
