//! [`Store`]: files by name, on a disk or in a bucket.

use crate::error::QueueError;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use std::fmt;
use std::sync::Arc;
use url::Url;

/// Files by name: a folder, or a bucket of S3 with the feature `s3`. A file is there whole or not at all.
#[derive(Clone)]
pub struct Store {
    files: Arc<dyn ObjectStore>,
    /// Address of the store, without secrets.
    address: Arc<str>,
}

/// The end of an attempt to write a file that was not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// The file was written.
    New,
    /// A file with the same bytes was there.
    Same,
    /// A file with other bytes was there. It was left as it was.
    Other,
}

impl Store {
    /// Opens a store: a folder, which is made if it is missing, `file:///FOLDER`, or `s3://BUCKET/PREFIX`. The keys of
    /// S3 are those of the environment, such as `AWS_ACCESS_KEY_ID`.
    ///
    /// # Errors
    /// [`QueueError::Store`] if the folder cannot be made, and if the address is of no known kind.
    pub fn open(address: &str) -> Result<Self, QueueError> {
        let fail = |problem: String| QueueError::Store { store: address.into(), problem };
        let files: Arc<dyn ObjectStore> = match Url::parse(address) {
            Ok(url) if url.scheme() == "s3" => bucket(&url).map_err(fail)?,
            Ok(url) if url.scheme() == "file" => {
                folder(&url.to_file_path().map_err(|()| fail("expected file:///FOLDER".into()))?).map_err(fail)?
            }
            Ok(url) if url.scheme().len() > 1 => {
                return Err(fail("expected a folder, file:///FOLDER or s3://BUCKET/PREFIX".into()));
            }
            _ => folder(std::path::Path::new(address)).map_err(fail)?,
        };
        Ok(Self { files, address: address.into() })
    }

    /// Reads a file; `None` if there is none.
    ///
    /// # Errors
    /// [`QueueError::Store`] if the store does not answer.
    pub async fn read(&self, name: &str) -> Result<Option<Vec<u8>>, QueueError> {
        match self.files.get(&Path::from(name)).await {
            Ok(found) => Ok(Some(found.bytes().await.map_err(|error| self.fail(&error))?.to_vec())),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.fail(&error)),
        }
    }

    /// Writes a file unless there is one.
    ///
    /// # Errors
    /// [`QueueError::Store`] if the store does not answer, or has no room.
    pub(crate) async fn write(&self, name: &str, bytes: Vec<u8>) -> Result<Written, QueueError> {
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.files.put_opts(&Path::from(name), bytes.clone().into(), options).await {
            Ok(_) => Ok(Written::New),
            Err(Error::AlreadyExists { .. }) => match self.read(name).await? {
                Some(old) if old == bytes => Ok(Written::Same),
                _ => Ok(Written::Other),
            },
            Err(error) => Err(self.fail(&error)),
        }
    }

    fn fail(&self, error: &Error) -> QueueError {
        QueueError::Store { store: self.address.as_ref().into(), problem: error.to_string() }
    }
}

/// Opens a folder, which is made if it is missing.
fn folder(path: &std::path::Path) -> Result<Arc<dyn ObjectStore>, String> {
    std::fs::create_dir_all(path).map_err(|error| error.to_string())?;
    let files = LocalFileSystem::new_with_prefix(path).map_err(|error| error.to_string())?;
    Ok(Arc::new(files.with_fsync(true)))
}

#[cfg(feature = "s3")]
fn bucket(url: &Url) -> Result<Arc<dyn ObjectStore>, String> {
    let name = url.host_str().ok_or("expected s3://BUCKET/PREFIX")?;
    let builder = object_store::aws::AmazonS3Builder::from_env().with_bucket_name(name);
    let files = builder.build().map_err(|error| error.to_string())?;
    Ok(Arc::new(object_store::prefix::PrefixStore::new(files, url.path())))
}

#[cfg(not(feature = "s3"))]
fn bucket(_: &Url) -> Result<Arc<dyn ObjectStore>, String> {
    Err("this program was built without S3; build it with the feature `s3`, or give a folder".into())
}

impl fmt::Debug for Store {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Store({})", self.address)
    }
}

impl fmt::Display for Store {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.address)
    }
}
