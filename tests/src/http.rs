//! The least HTTP client that asks a pod's admin endpoint.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, TcpStream},
    time::Duration,
};

use crate::Pod;

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// Such as 200.
    pub status: u16,
    /// What came after the head.
    pub body: String,
}

/// GETs a path from a port on the pod's loopback.
///
/// # Errors
/// When nobody answers there, or not in HTTP.
pub fn get(pod: &Pod, port: u16, path: &str) -> io::Result<Answer> {
    pod.run_in_netns(|| {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let broken = || io::Error::other(format!("not HTTP: {text:?}"));
        let status = text.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(broken)?;
        let body = text.split_once("\r\n\r\n").ok_or_else(broken)?.1.to_owned();
        Ok(Answer { status, body })
    })
}
