//! [`Connection`]: a TCP connection that ends if its client takes no bytes.

use std::io::{ErrorKind, Result};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

/// A TCP connection that ends with an error if its client takes no bytes for some time.
pub struct Connection {
    stream: TcpStream,
    patience: Duration,
    /// End of the patience, while bytes wait for the client.
    end: Option<Pin<Box<Sleep>>>,
}

impl Connection {
    pub const fn new(stream: TcpStream, patience: Duration) -> Self {
        Self { stream, patience, end: None }
    }

    /// Returns the answer of the stream to bytes that were written, or an error at the end of the patience.
    fn written(&mut self, context: &mut Context<'_>, answer: Poll<Result<usize>>) -> Poll<Result<usize>> {
        if answer.is_pending() {
            let end = self.end.get_or_insert_with(|| Box::pin(tokio::time::sleep(self.patience)));
            ready!(end.as_mut().poll(context));
        }
        self.end = None;
        if answer.is_pending() { Poll::Ready(Err(ErrorKind::TimedOut.into())) } else { answer }
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, to)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        let answer = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.written(context, answer)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let answer = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.written(context, answer)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn client_that_takes_no_bytes_is_cut_off() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let patience = Duration::from_millis(100);
        let mut connection = Connection::new(listener.accept().await.unwrap().0, patience);
        let chunk = vec![0; 1 << 16];
        let mut write = async || poll_fn(|context| Pin::new(&mut connection).poll_write(context, &chunk)).await;
        let mut written = 0;
        let error = loop {
            match write().await {
                Ok(count) => written += count,
                Err(error) => break error,
            }
        };
        assert!(error.kind() == ErrorKind::TimedOut && written > 0, "{error}");
        // A client that takes bytes in time is served on.
        let mut taken = vec![0; written];
        while !taken.is_empty() {
            client.readable().await.unwrap();
            let count = client.try_read(&mut taken).unwrap_or(0);
            taken.truncate(taken.len() - count);
        }
        assert!(write().await.is_ok());
    }
}
