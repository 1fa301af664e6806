//! Shows what happens: bars on a terminal, lines elsewhere.

mod bars;
mod state;

use std::io::{self, IsTerminal as _, Write};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

use self::bars::Bars;
use self::state::State;
use crate::cli::ProgressMode;
use crate::events::{Event, Listener, Outcome};
use crate::options::OutputOptions;
use crate::util::text;

/// How often bars are drawn.
const FRAME: Duration = Duration::from_millis(100);
/// Silence after which a line says that something is still going on.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Where a run is seen. Lives as long as the run.
pub struct Display {
    shared: Arc<Shared>,
    bars: Option<Bars>,
    /// Draws, or keeps the heart beating, until told to stop.
    ticker: Option<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    stopped: Mutex<bool>,
    stop: Condvar,
}

impl Display {
    pub fn new(output: &OutputOptions) -> Self {
        // One that does not say what it is gets no control sequences.
        let terminal =
            io::stderr().is_terminal() && std::env::var_os("TERM").is_some_and(|term| term != "dumb");
        let mode = match output.progress {
            _ if output.quiet => ProgressMode::None,
            ProgressMode::Auto if terminal => ProgressMode::Bars,
            ProgressMode::Auto => ProgressMode::Lines,
            // Control sequences belong to terminals alone.
            ProgressMode::Bars if !terminal => ProgressMode::Lines,
            chosen => chosen,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(State::default()),
            stopped: Mutex::new(false),
            stop: Condvar::new(),
        });
        let bars = (mode == ProgressMode::Bars).then(Bars::new);
        let ticker = match (mode, &bars) {
            (ProgressMode::Bars, Some(bars)) => Some(shared.clone().draw(bars.clone())),
            (ProgressMode::Lines, _) => Some(shared.clone().beat()),
            _ => None,
        };
        Self { shared, bars, ticker }
    }

    /// Where the run's events go.
    pub fn listener(&self) -> Listener {
        let shared = self.shared.clone();
        let bars = self.bars.clone();
        let silent = self.ticker.is_none();
        Arc::new(move |event| {
            let line = match (&event, &bars) {
                _ if silent => None,
                // What went well is counted in the bars; what did not is said at once.
                (Event::Delivered(told), Some(_)) if !matches!(told.outcome, Outcome::Failed(_)) => None,
                (Event::Delivered(told), _) => Some(told.clone()),
                _ => None,
            };
            let mut state = shared.state();
            state.take_in(event);
            let Some(told) = line else { return };
            let line = state.line_for(&told);
            drop(state);
            match &bars {
                Some(bars) => bars.above(|| say(&line)),
                None => say(&line),
            }
        })
    }

    /// Where log messages go, so that they do not tear the bars.
    pub fn log_writer(&self) -> LogWriter {
        LogWriter { bars: self.bars.clone() }
    }

    /// Takes the bars away.
    pub fn finish(mut self) {
        self.stop();
    }

    fn stop(&mut self) {
        *self.shared.stopped.lock().expect("no code panics while it holds this lock") = true;
        self.shared.stop.notify_all();
        if let Some(ticker) = self.ticker.take() {
            let _ = ticker.join();
        }
        if let Some(bars) = self.bars.take() {
            bars.clear();
        }
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while it holds this lock")
    }

    /// Waits; false once it is time to stop.
    fn goes_on_after(&self, time: Duration) -> bool {
        let stopped = self.stopped.lock().expect("no code panics while it holds this lock");
        let waited = self.stop.wait_timeout_while(stopped, time, |stopped| !*stopped);
        !*waited.expect("no code panics while it holds this lock").0
    }

    fn draw(self: Arc<Self>, mut bars: Bars) -> JoinHandle<()> {
        std::thread::spawn(move || {
            while self.goes_on_after(FRAME) {
                let picture = self.state().picture();
                if let Some(picture) = picture {
                    bars.draw(&picture);
                }
            }
        })
    }

    fn beat(self: Arc<Self>) -> JoinHandle<()> {
        std::thread::spawn(move || {
            let mut before = 0;
            while self.goes_on_after(HEARTBEAT) {
                let mut state = self.state();
                let lines = state.lines;
                let picture = state.picture().filter(|_| lines == before);
                drop(state);
                before = lines;
                if let Some(picture) = picture {
                    say(&format!("… {}", picture.overall));
                }
            }
        })
    }
}

/// One line on standard error; that it may be closed is no reason to stop moving images.
fn say(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Writes log messages above the bars, as far as somebody can see them: what logs panics over an error.
#[derive(Clone)]
pub struct LogWriter {
    bars: Option<Bars>,
}

impl Write for LogWriter {
    fn write(&mut self, message: &[u8]) -> io::Result<usize> {
        let write = || {
            let _ = io::stderr().lock().write_all(message);
        };
        match &self.bars {
            Some(bars) => bars.above(write),
            None => write(),
        }
        Ok(message.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// What bars and heartbeat show at one moment.
struct Picture {
    /// Numbers, rate and time left.
    overall: String,
    /// Of 1000.
    permille: u64,
    transfers: Vec<Moving>,
}

struct Moving {
    text: String,
    permille: u64,
}

fn permille(part: u64, whole: u64) -> u64 {
    match whole {
        0 => 1000,
        whole => (u128::from(part.min(whole)) * 1000 / u128::from(whole)) as u64,
    }
}

fn of(part: u64, whole: u64) -> String {
    format!("{} of {}", text::bytes(part.min(whole)), text::bytes(whole))
}
