//! Another try, after a pause that grows.

use super::client::Failure;
use crate::commands::remark;
use anyhow::Result;
use std::thread::sleep;
use std::time::Duration;

/// How often in a row something may fail.
pub struct Retries {
    most: u32,
    tries: u32,
    is_reached: bool,
}

/// Between the first try and the second; it doubles from try to try, up to half a minute.
const PAUSE: Duration = Duration::from_millis(500);

impl Retries {
    pub fn new(most: u32) -> Self {
        Retries { most, tries: 0, is_reached: false }
    }

    /// Something has been gained: failures are counted anew.
    pub fn forget(&mut self) {
        self.tries = 0;
    }

    /// Waits until it is time for another try.
    ///
    /// # Errors
    /// With the failure, if another try is in vain or was the last.
    pub fn pause(&mut self, failure: Failure) -> Result<()> {
        let is_hopeful = match failure {
            Failure::Final(_) => false,
            Failure::Passing(_) => true,
            Failure::Unreached(_) => self.is_reached,
        };
        self.is_reached |= matches!(failure, Failure::Passing(_));
        let error = failure.into_error();
        if !is_hopeful || self.tries >= self.most {
            return Err(error);
        }
        let pause = PAUSE * 2u32.pow(self.tries.min(6));
        self.tries += 1;
        remark(&format!("{error:#}; trying again in {} s ({} of {})", pause.as_secs_f32(), self.tries, self.most));
        sleep(pause);
        Ok(())
    }
}

/// What `attempt` gives in the end.
pub fn persistently<T>(most: u32, mut attempt: impl FnMut() -> Result<T, Failure>) -> Result<T> {
    let mut retries = Retries::new(most);
    loop {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(failure) => retries.pause(failure)?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;

    fn count(most: u32, failure: fn() -> Failure) -> (u32, String) {
        let mut count = 0;
        let error = persistently::<()>(most, || {
            count += 1;
            Err(failure())
        });
        (count, error.unwrap_err().to_string())
    }

    #[test]
    fn only_what_may_pass_is_tried_again() {
        assert_eq!(count(1, || Failure::Passing(anyhow!("broke"))), (2, "broke".to_owned()));
        assert_eq!(count(0, || Failure::Passing(anyhow!("broke"))), (1, "broke".to_owned()));
        assert_eq!(count(5, || Failure::Final(anyhow!("no file"))), (1, "no file".to_owned()));
        assert_eq!(count(5, || Failure::unreached("no network")), (1, "no network".to_owned()));
    }

    #[test]
    fn a_network_that_goes_away_in_the_middle_may_come_back() {
        let mut failures = vec![Failure::unreached("no network"), Failure::Passing(anyhow!("broke"))];
        let value = persistently(2, || failures.pop().map_or(Ok(7), Err)).unwrap();
        assert_eq!(value, 7);
    }
}
