//! Answers that are good for a while, so that many passes make one read. Takes a read, gives its answer or that of the
//! last one. No I/O of its own; looks at the clock.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// Answers by what was asked. Errors are not kept.
#[derive(Debug)]
pub struct Recent<V> {
    good_for: Duration,
    kept: Mutex<HashMap<String, (Instant, V)>>,
}

impl<V: Clone> Recent<V> {
    /// Answers that are good for this long.
    pub fn new(good_for: Duration) -> Self {
        Self { good_for, kept: Mutex::default() }
    }

    /// The answer to `key`: one that is still good, or that of `read`.
    pub async fn get<E>(&self, key: String, read: impl Future<Output = Result<V, E>>) -> Result<V, E> {
        if let Some(value) = self.good(&key) {
            return Ok(value);
        }
        let value = read.await?;
        let now = Instant::now();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|_, (at, _)| now.duration_since(*at) < self.good_for);
        kept.insert(key, (now, value.clone()));
        Ok(value)
    }

    fn good(&self, key: &str) -> Option<V> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(key).filter(|(at, _)| at.elapsed() < self.good_for).map(|(_, value)| value.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_read_once_while_it_is_good_and_then_anew() {
        let recent = Recent::new(Duration::from_secs(1));
        let read = async |value: i32| recent.get("a".to_owned(), async { Ok::<_, ()>(value) }).await.unwrap();
        assert_eq!(read(1).await, 1);
        advance(Duration::from_millis(900)).await;
        assert_eq!(read(2).await, 1);
        advance(Duration::from_millis(200)).await;
        assert_eq!(read(3).await, 3);
        let other = recent.get("b".to_owned(), async { Ok::<_, ()>(4) }).await;
        assert_eq!(other, Ok(4), "each question has its own answer");
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_is_not_kept() {
        let recent = Recent::new(Duration::from_secs(1));
        assert_eq!(recent.get("a".to_owned(), async { Err::<i32, _>("away") }).await, Err("away"));
        assert_eq!(recent.get("a".to_owned(), async { Ok::<_, &str>(1) }).await, Ok(1));
    }
}
