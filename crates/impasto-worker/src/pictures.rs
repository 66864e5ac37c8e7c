//! Moves the pictures of a job between its JSON and the store.
//!
//! A picture in a job is a data URL. In the queue it is `picture:HASH`, and the data URL is a file of the store under
//! the hash, so that a picture of many jobs is kept once.

use crate::error::QueueError;
use crate::key::hash;
use crate::store::Store;
use serde_json::Value;

/// Beginning of the name of a picture in the queue.
const NAME: &str = "picture:";

/// Shortest data URL that moves to the store, in bytes.
const SHORTEST: usize = 1024;

fn file(digits: &str) -> String {
    format!("inputs/{digits}")
}

/// Calls `change` with every text of a value.
fn each<E>(value: &mut Value, change: &mut impl FnMut(&mut String) -> Result<(), E>) -> Result<(), E> {
    match value {
        Value::String(text) => change(text),
        Value::Array(values) => values.iter_mut().try_for_each(|value| each(value, change)),
        Value::Object(fields) => fields.values_mut().try_for_each(|value| each(value, change)),
        _ => Ok(()),
    }
}

/// Moves the pictures of a job to the store.
///
/// # Errors
/// [`QueueError::Refused`] if the job names a picture of the store itself, and [`QueueError::Store`] if the store does
/// not answer.
pub async fn store(job: &mut Value, store: &Store) -> Result<(), QueueError> {
    let mut moved = Vec::new();
    each(job, &mut |text| {
        if text.starts_with(NAME) {
            return Err(QueueError::Refused(format!("a text of the job begins with {NAME}; expected a data URL")));
        }
        if text.starts_with("data:") && text.len() >= SHORTEST {
            let digits = hash(text.as_bytes());
            let name = format!("{NAME}{digits}");
            moved.push((digits, std::mem::replace(text, name)));
        }
        Ok(())
    })?;
    for (digits, text) in moved {
        store.write(&file(&digits), text.into_bytes()).await?;
    }
    Ok(())
}

/// Brings the pictures of a job back from the store.
///
/// # Errors
/// [`QueueError::Store`] if a picture is missing or damaged, and if the store does not answer.
pub async fn restore(job: &mut Value, store: &Store) -> Result<(), QueueError> {
    let mut names = Vec::new();
    each(job, &mut |text| {
        names.extend(text.strip_prefix(NAME).map(str::to_owned));
        Ok::<_, QueueError>(())
    })?;
    let mut found = Vec::new();
    for digits in names {
        let bytes = store.read(&file(&digits)).await?.filter(|bytes| hash(bytes) == digits);
        let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
        let problem = || format!("the picture {digits} of the job is missing or damaged; submit the job again");
        found.push(text.ok_or_else(|| QueueError::Store { store: store.to_string(), problem: problem() })?);
    }
    let mut found = found.into_iter();
    each(job, &mut |text| {
        if text.starts_with(NAME)
            && let Some(picture) = found.next()
        {
            *text = picture;
        }
        Ok(())
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use serde_json::json;

    #[tokio::test]
    async fn pictures_return_to_a_job_as_they_were() {
        let folder = tempfile::tempdir().unwrap();
        let files = Store::open(folder.path().to_str().unwrap()).unwrap();
        let (large, other) = (format!("data:image/png;base64,{}", "A".repeat(2000)), "data:,x".repeat(300));
        let job = json!({ "start": large, "areas": [{ "mask": large }, other], "prompt": "data:image/png" });
        let mut moved = job.clone();
        store(&mut moved, &files).await.unwrap();
        assert!(moved.to_string().len() < 400 && moved["start"] == moved["areas"][0]["mask"], "{moved}");
        assert_eq!(std::fs::read_dir(folder.path().join("inputs")).unwrap().count(), 2, "equal pictures are one file");
        let mut restored = moved.clone();
        restore(&mut restored, &files).await.unwrap();
        assert_eq!(restored, job);
        let name = moved["start"].as_str().unwrap().strip_prefix(NAME).unwrap().to_owned();
        std::fs::write(folder.path().join("inputs").join(name), "other bytes").unwrap();
        assert!(restore(&mut moved, &files).await.unwrap_err().to_string().contains("missing or damaged"));
    }

    #[tokio::test]
    async fn job_cannot_name_a_file_of_the_store() {
        let folder = tempfile::tempdir().unwrap();
        let files = Store::open(folder.path().to_str().unwrap()).unwrap();
        let mut job = json!({ "start": "picture:../../etc/passwd" });
        assert!(matches!(store(&mut job, &files).await, Err(QueueError::Refused(_))));
    }
}
