//! A machine that was switched on, and when its console said what.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::vm::{Machine, Vm};

/// How often the consoles are looked at: times are right to this.
const PERIOD: Duration = Duration::from_millis(100);

/// A line on the console that tells how far a machine is: what it means, and the text.
pub type Mark = (&'static str, &'static str);

/// The installer refuses to go on, and waits.
pub const REFUSED: &[Mark] = &[
    ("mini-kernel", "modules: load drivers"),
    ("hello", "hello: say hello"),
    ("refused", FAILED),
];

/// The mini-kernel waits for the operator, and has said how to come in.
pub const RESCUE: &[Mark] = &[
    ("waits", "This machine waits in rescue."),
    ("rescue", "reboot -f here."),
];

/// The installer stops where it was told to, installs the machine then, and the installed system lets users in.
pub const STOPPED: &[Mark] = &[
    ("mini-kernel", "modules: load drivers"),
    ("hello", "hello: say hello"),
    ("stopped", "stopped before receive: leave the shell to go on"),
    ("receive", "receive: receive the version"),
    ("received", "receive: done in"),
    ("installed", "unmount: done in"),
    ("login", " login: "),
];

/// The installer runs, installs the machine, and the installed system lets users in.
pub const INSTALL: &[Mark] = &[
    ("mini-kernel", "modules: load drivers"),
    ("hello", "hello: say hello"),
    ("order", "order: fetch the signed order"),
    ("receive", "receive: receive the version"),
    ("received", "receive: done in"),
    ("installed", "unmount: done in"),
    ("login", " login: "),
];

/// The machine starts from its disk.
pub const LOCAL: &[Mark] = &[("login", " login: ")];

/// What the installer says when it gives up.
const FAILED: &str = "This machine is not installed, and waits";

/// A machine on its way.
#[derive(Debug)]
pub struct Course {
    name: String,
    vm: Vm,
    marks: &'static [Mark],
    /// How long the machine had been on when it began.
    since: Duration,
    reached: Vec<Duration>,
}

impl Course {
    /// Switches the machine on; it should say `marks` in this order.
    ///
    /// # Errors
    /// As [`Machine::power_on`].
    pub fn begin(machine: &Machine, marks: &'static [Mark]) -> Result<Self> {
        Ok(Self {
            name: machine.name().to_owned(),
            vm: machine.power_on()?,
            marks,
            since: Duration::ZERO,
            reached: Vec::new(),
        })
    }

    /// The machine's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The machine.
    pub fn vm(&mut self) -> &mut Vm {
        &mut self.vm
    }

    /// The same machine from now on, which should say other marks.
    #[must_use]
    pub fn go_on(self, marks: &'static [Mark]) -> Self {
        Self {
            marks,
            since: self.vm.uptime(),
            reached: Vec::new(),
            ..self
        }
    }

    /// When it has said a mark, since it was switched on or was to go on.
    pub fn at(&self, mark: &str) -> Option<Duration> {
        let index = self.marks.iter().position(|(name, _)| *name == mark)?;
        self.reached.get(index).copied()
    }

    /// Looks at the console.
    fn look(&mut self) -> Result<()> {
        let marks = self.marks;
        for (name, text) in &marks[self.reached.len()..] {
            let shown = self.vm.has_shown(text);
            if !shown.with_context(|| format!("{} on its way to {name:?}", self.name))? {
                break;
            }
            eprintln!(
                "    {}: {name} after {:.1} s",
                self.name,
                self.vm.uptime().as_secs_f64()
            );
            self.reached.push(self.vm.uptime().saturating_sub(self.since));
        }
        let done = self.reached.len() == marks.len();
        let ahead = self.vm.ahead();
        if !done && ahead.contains(FAILED) {
            bail!("{} gives up:\n{ahead}", self.name);
        }
        Ok(())
    }

    /// Presses the power button, and waits until it is off.
    ///
    /// # Errors
    /// When it stays on.
    pub fn switch_off(mut self, limit: Duration) -> Result<()> {
        self.vm.press_power_button()?;
        let off = self.vm.wait_off(limit);
        off.with_context(|| format!("switch {} off", self.name))?;
        Ok(())
    }

    /// Pulls the plug.
    pub fn cut_power(self) {
        self.vm.cut_power();
    }
}

/// Waits until all machines have said `mark`.
///
/// # Errors
/// When one gives up, ends, or needs longer than `limit`; with the end of its console.
pub fn all_reach(courses: &mut [Course], mark: &str, limit: Duration) -> Result<()> {
    let end = Instant::now() + limit;
    loop {
        for course in &mut *courses {
            course.look()?;
        }
        let Some(late) = courses.iter().find(|course| course.at(mark).is_none()) else {
            return Ok(());
        };
        if Instant::now() >= end {
            let (text, limit) = (late.vm.console(), limit.as_secs());
            let tail = crate::command::tail(text.trim_end(), 40);
            bail!("{} does not reach {mark:?} within {limit} s:\n{tail}", late.name);
        }
        thread::sleep(PERIOD);
    }
}
