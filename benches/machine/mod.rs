//! What stands above every table: the command that made it, the day, and the processor.

use std::fmt;

use colqwen_index::tantivy::time::OffsetDateTime;
use serde::Serialize;

/// What figures were measured by, when, and on what.
#[derive(Serialize)]
pub struct Setting {
    command: String,
    date: String,
    version: &'static str,
    processor: String,
    cores: usize,
    architecture: &'static str,
}

impl Setting {
    /// Of the running program.
    pub fn now() -> Self {
        Self {
            command: command(),
            date: OffsetDateTime::now_utc().date().to_string(),
            version: env!("CARGO_PKG_VERSION"),
            processor: processor(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            architecture: std::env::consts::ARCH,
        }
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { command, date, version, processor, cores, architecture } = self;
        writeln!(f, "$ {command}")?;
        write!(f, "{date}, colqwen-index {version}, {processor}, {cores} cores, {architecture}")
    }
}

/// The command that runs this bench again, as a shell takes it.
fn command() -> String {
    let mut command = format!("cargo bench --no-default-features --bench {}", env!("CARGO_CRATE_NAME"));
    // Cargo adds --bench itself.
    let own: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if !own.is_empty() {
        command += " --";
    }
    for argument in own {
        let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_=+:,./".contains(letter);
        match !argument.is_empty() && argument.chars().all(plain) {
            true => command += &format!(" {argument}"),
            false => command += &format!(" '{}'", argument.replace('\'', r"'\''")),
        }
    }
    command
}

/// The processor's name as the system gives it, with the numbers that tell its generation where the name does not.
fn processor() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = info.lines().find_map(|line| line.split_once(':').filter(|(key, _)| key.trim() == name));
        line.map_or("unknown", |(_, value)| value.trim())
    };
    format!("{} (family {}, model {})", field("model name"), field("cpu family"), field("model"))
}
