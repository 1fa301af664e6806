//! Bars on a terminal: one for all, and one for each transfer that takes a while, as many as there is room for.

use std::io;
use std::sync::{Mutex, MutexGuard};

use console::Term;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike};

use super::Picture;

/// Most transfers that have a line of their own.
const LINES_MAX: usize = 16;
/// Below this width, in columns, there is room for words only.
const WIDTH_FOR_BARS: u16 = 50;
/// Most drawings in a second.
const HERTZ: u8 = 20;

#[derive(Clone)]
pub(super) struct Bars {
    screen: MultiProgress,
    overall: ProgressBar,
    lines: Vec<ProgressBar>,
}

impl Bars {
    pub(super) fn new() -> Self {
        let screen = MultiProgress::with_draw_target(ProgressDrawTarget::term_like_with_hz(
            Box::new(Screen(Mutex::new(Term::buffered_stderr()))),
            HERTZ,
        ));
        let overall = screen.add(ProgressBar::new(1000));
        overall.set_style(style("{bar:24} {wide_msg}"));
        Self { screen, overall, lines: Vec::new() }
    }

    /// Does something to the terminal while the bars are away.
    pub(super) fn above<T>(&self, write: impl FnOnce() -> T) -> T {
        self.screen.suspend(write)
    }

    pub(super) fn draw(&mut self, picture: &Picture) {
        let room = rows().saturating_sub(4).min(LINES_MAX);
        let shown = picture.transfers.len().min(room);
        let more = picture.transfers.len() - shown;
        self.overall.set_position(picture.permille);
        self.overall.set_message(match more {
            0 => picture.overall.clone(),
            more => format!("{} (and {more} more transfers)", picture.overall),
        });
        while self.lines.len() > shown {
            if let Some(line) = self.lines.pop() {
                line.finish_and_clear();
                self.screen.remove(&line);
            }
        }
        while self.lines.len() < shown {
            let line = self.screen.add(ProgressBar::new(1000));
            line.set_style(style("  {bar:16} {wide_msg}"));
            self.lines.push(line);
        }
        for (line, transfer) in self.lines.iter().zip(&picture.transfers) {
            line.set_position(transfer.permille);
            line.set_message(transfer.text.clone());
        }
        // Nothing moves by itself here; a tick draws what was set.
        self.overall.tick();
    }

    pub(super) fn clear(&self) {
        self.overall.finish_and_clear();
        let _ = self.screen.clear();
        self.screen.set_draw_target(ProgressDrawTarget::hidden());
    }
}

fn style(template: &str) -> ProgressStyle {
    let narrow = Term::stderr().size_checked().is_some_and(|(_, columns)| columns < WIDTH_FOR_BARS);
    let template = if narrow { "{wide_msg}" } else { template };
    ProgressStyle::with_template(template).expect("the template is valid").progress_chars("█▉▊▋▌▍▎▏ ")
}

fn rows() -> usize {
    Term::stderr().size_checked().map_or(24, |(rows, _)| usize::from(rows))
}

/// A terminal that may go away: what draws on it panics over an error.
#[derive(Debug)]
struct Screen(Mutex<Term>);

impl Screen {
    fn term(&self) -> MutexGuard<'_, Term> {
        self.0.lock().expect("no code panics while it holds this lock")
    }
}

/// All but the last step writes to a buffer.
impl TermLike for Screen {
    fn width(&self) -> u16 {
        self.term().width()
    }

    fn height(&self) -> u16 {
        self.term().height()
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        self.term().move_cursor_up(n)
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        self.term().move_cursor_down(n)
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        self.term().move_cursor_right(n)
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        self.term().move_cursor_left(n)
    }

    fn write_line(&self, s: &str) -> io::Result<()> {
        self.term().write_line(s)
    }

    fn write_str(&self, s: &str) -> io::Result<()> {
        self.term().write_str(s)
    }

    fn clear_line(&self) -> io::Result<()> {
        self.term().clear_line()
    }

    fn flush(&self) -> io::Result<()> {
        let mut term = self.term();
        if term.flush().is_err() {
            // What could not be written would stay in the buffer, and more would come to it with each picture.
            *term = Term::buffered_stderr();
        }
        Ok(())
    }
}
