//! The end of a run before its time.

use tokio::time::{Instant, sleep};

use super::Run;

impl Run {
    /// Nothing new begins; what is under way may end in the time that an interruption leaves, if it will.
    pub(super) async fn drain(&mut self) {
        self.lanes.keep_publications();
        let time = self.target.policy().timing.farewell;
        self.transfers.keep_what_ends_within(time, Instant::now());
        let farewell = sleep(time);
        tokio::pin!(farewell);
        loop {
            tokio::select! {
                done = self.tasks.join_next() => match done {
                    Some(done) => {
                        self.on_finished(done);
                        self.lanes.keep_publications();
                        self.publish_what_is_ready();
                    }
                    None => return,
                },
                () = &mut farewell => return,
            }
        }
    }
}
