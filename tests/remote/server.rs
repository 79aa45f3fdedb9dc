//! A server in the test process, on the loopback address: HTTP by routes that a test gives, and a
//! WebSocket where it gives one.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: String,
    /// Path with query.
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut all = self.headers.iter();
        let found = all.find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// What a route gives back.
pub enum Reply {
    /// Status, content type, body.
    Whole(u16, &'static str, Vec<u8>),
    /// Written as it likes, connection and all, after the request was read.
    Raw(Box<dyn FnOnce(&mut TcpStream) + Send>),
    /// A WebSocket; the closure speaks on it.
    Socket(Box<dyn FnOnce(tungstenite::WebSocket<TcpStream>) + Send>),
}

pub fn json(value: &serde_json::Value) -> Reply {
    Reply::Whole(200, "application/json", value.to_string().into_bytes())
}

pub type Route = dyn Fn(&Asked) -> Reply + Send + Sync;

/// Listens until it is dropped.
pub struct Server {
    pub address: String,
    pub asked: Arc<Mutex<Vec<Asked>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub fn start(route: Box<Route>) -> Server {
        Server::listening(TcpListener::bind("127.0.0.1:0").unwrap(), route)
    }

    /// Stops, and starts again at the same address with another way to answer.
    pub fn restarted(mut self, route: Box<Route>) -> Server {
        let at = self.address.trim_start_matches("http://").to_owned();
        self.close();
        Server::listening(TcpListener::bind(at).unwrap(), route)
    }

    fn listening(listener: TcpListener, route: Box<Route>) -> Server {
        let address = format!("http://{}", listener.local_addr().unwrap());
        listener.set_nonblocking(true).unwrap();
        let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let (route, seen): (Arc<Route>, Arc<Mutex<Vec<Asked>>>) =
            (route.into(), Arc::clone(&asked));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let Ok((stream, _)) = listener.accept() else {
                    std::thread::sleep(Duration::from_millis(5));
                    continue;
                };
                stream.set_nonblocking(false).unwrap();
                let (route, seen) = (Arc::clone(&route), Arc::clone(&seen));
                std::thread::spawn(move || serve(stream, &*route, &seen));
            }
        });
        Server {
            address,
            asked,
            stop,
            thread: Some(thread),
        }
    }

    /// The requests whose path begins with `path`.
    pub fn requests(&self, path: &str) -> Vec<Asked> {
        let all = self.asked.lock().unwrap();
        all.iter()
            .filter(|asked| asked.path.starts_with(path))
            .cloned()
            .collect()
    }
}

impl Server {
    fn close(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.close();
    }
}

/// One request a connection.
fn serve(mut stream: TcpStream, route: &Route, seen: &Mutex<Vec<Asked>>) {
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    if reader.read_line(&mut line).unwrap_or(0) == 0 {
        return;
    }
    let mut words = line.split_whitespace();
    let mut asked = Asked {
        method: words.next().unwrap_or_default().to_owned(),
        path: words.next().unwrap_or_default().to_owned(),
        headers: Vec::new(),
        body: Vec::new(),
    };
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 || line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':') {
            asked
                .headers
                .push((name.trim().to_owned(), value.trim().to_owned()));
        }
    }
    let length = asked
        .header("content-length")
        .and_then(|length| length.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    if reader.read_exact(&mut body).is_err() {
        return;
    }
    asked.body = body;
    seen.lock().unwrap().push(asked.clone());
    match route(&asked) {
        Reply::Whole(status, kind, body) => {
            let head = format!(
                "HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all(head.as_bytes());
            let _ = stream.write_all(&body);
        }
        Reply::Raw(write) => write(&mut stream),
        Reply::Socket(speak) => {
            let key = asked.header("sec-websocket-key").unwrap_or_default();
            let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
            let head = format!(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
            );
            let _ = stream.write_all(head.as_bytes());
            speak(tungstenite::WebSocket::from_raw_socket(
                stream,
                tungstenite::protocol::Role::Server,
                None,
            ));
        }
    }
}

/// Writes the head of an event stream and then its events, with a pause after each.
pub fn events(events: Vec<String>, pause: Duration) -> Reply {
    Reply::Raw(Box::new(move |stream| {
        let head =
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";
        let _ = stream.write_all(head.as_bytes());
        for event in events {
            if stream
                .write_all(format!("data: {event}\n\n").as_bytes())
                .is_err()
            {
                return;
            }
            std::thread::sleep(pause);
        }
    }))
}
