//! A faulty network between a store and its server.
//!
//! A TCP proxy that reads PostgreSQL messages on both ways, so that a fault can be put exactly
//! before or after a statement took effect. It never changes a message.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

/// What happens to the next request whose statement contains a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The server gets and answers it; the answer is swallowed and the connection cut.
    CutAfterCommit(String),
    /// The server never gets it; the connection is cut.
    CutBefore(String),
}

/// A running proxy. Dropping it cuts everything.
pub(crate) struct Proxy {
    port: u16,
    state: Arc<State>,
    tasks: TaskTracker,
}

struct State {
    server: SocketAddr,
    fault: Mutex<Option<(Fault, usize)>>,
    black_hole: AtomicBool,
    delay_ms: AtomicUsize,
    connections: AtomicUsize,
    struck: AtomicUsize,
    /// Raised to cut every connection of an older generation.
    generation: watch::Sender<u64>,
}

impl Proxy {
    /// A proxy before the server on that port of 127.0.0.1.
    pub(crate) async fn start(server_port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State {
            server: SocketAddr::from(([127, 0, 0, 1], server_port)),
            fault: Mutex::new(None),
            black_hole: AtomicBool::new(false),
            delay_ms: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            struck: AtomicUsize::new(0),
            generation: watch::channel(0).0,
        });
        let tasks = TaskTracker::new();
        let (accepting, serving) = (state.clone(), tasks.clone());
        tasks.spawn(async move {
            let mut ended = accepting.generation.subscribe();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        let Ok((client, _)) = accepted else { return };
                        accepting.connections.fetch_add(1, Ordering::SeqCst);
                        let state = accepting.clone();
                        serving.spawn(async move {
                            // However a connection ends, both its sides are closed with it.
                            let _ = serve(client, &state).await;
                        });
                    }
                    _ = ended.wait_for(|generation| *generation == u64::MAX) => return,
                }
            }
        });
        Self { port, state, tasks }
    }

    /// Where clients connect to.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Arms a fault; it strikes once.
    pub(crate) fn arm(&self, fault: Fault) {
        self.arm_after(fault, 0);
    }

    /// Arms a fault that lets so many of its targets pass first.
    pub(crate) fn arm_after(&self, fault: Fault, passes: usize) {
        *self
            .state
            .fault
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some((fault, passes));
    }

    /// Whether a fault is still waiting for its target.
    pub(crate) fn armed(&self) -> bool {
        self.state
            .fault
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some()
    }

    /// How many faults have struck.
    pub(crate) fn struck(&self) -> usize {
        self.state.struck.load(Ordering::SeqCst)
    }

    /// How many connections were ever accepted.
    pub(crate) fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// Takes bytes and delivers none, both ways, until it is switched off.
    pub(crate) fn black_hole(&self, on: bool) {
        self.state.black_hole.store(on, Ordering::SeqCst);
    }

    /// Holds every message back for so long, both ways.
    pub(crate) fn delay(&self, by: Duration) {
        self.state
            .delay_ms
            .store(by.as_millis() as usize, Ordering::SeqCst);
    }

    /// Cuts every connection that is open now.
    pub(crate) fn cut_all(&self) {
        self.state
            .generation
            .send_modify(|generation| *generation += 1);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.generation.send_replace(u64::MAX);
        self.tasks.close();
    }
}

impl State {
    /// The armed fault, if this statement is its target; it is disarmed by that.
    fn take_fault(&self, message: &[u8]) -> Option<Fault> {
        let mut armed = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        let (fault, passes) = armed.as_mut()?;
        let needle = match fault {
            Fault::CutAfterCommit(needle) | Fault::CutBefore(needle) => needle.as_bytes(),
        };
        let hit = message.windows(needle.len()).any(|window| window == needle);
        if !hit {
            return None;
        }
        if *passes > 0 {
            *passes -= 1;
            return None;
        }
        self.struck.fetch_add(1, Ordering::SeqCst);
        armed.take().map(|(fault, _)| fault)
    }

    /// Lets the configured trouble pass over one message.
    async fn suffer(&self) {
        let delay = self.delay_ms.load(Ordering::SeqCst) as u64;
        if delay > 0 {
            tokio::time::sleep(Duration::from_millis(delay)).await;
        }
        while self.black_hole.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

async fn serve(client: TcpStream, state: &State) -> io::Result<()> {
    let mut cut = state.generation.subscribe();
    let server = TcpStream::connect(state.server).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let swallow = AtomicBool::new(false);
    tokio::select! {
        ended = upstream(from_client, to_server, state, &swallow) => ended,
        ended = downstream(from_server, to_client, state, &swallow) => ended,
        _ = cut.changed() => Ok(()),
    }
}

/// Requests. The first packet of a connection has no type byte.
async fn upstream(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    state: &State,
    swallow: &AtomicBool,
) -> io::Result<()> {
    let mut started = false;
    loop {
        let message = read_message(&mut from, started).await?;
        started = true;
        state.suffer().await;
        match state.take_fault(&message) {
            Some(Fault::CutBefore(_)) => return Ok(()),
            // Set before the server can answer: from here on nothing reaches the client.
            Some(Fault::CutAfterCommit(_)) => swallow.store(true, Ordering::SeqCst),
            None => {}
        }
        to.write_all(&message).await?;
    }
}

/// Answers, up to the end of one that is to be swallowed.
async fn downstream(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    state: &State,
    swallow: &AtomicBool,
) -> io::Result<()> {
    const READY_FOR_QUERY: u8 = b'Z';
    loop {
        let message = read_message(&mut from, true).await?;
        if swallow.load(Ordering::SeqCst) {
            if message[0] == READY_FOR_QUERY {
                return Ok(());
            }
            continue;
        }
        state.suffer().await;
        to.write_all(&message).await?;
    }
}

/// One whole message: a type byte (but for the first), a length that counts itself, the body.
async fn read_message(from: &mut OwnedReadHalf, typed: bool) -> io::Result<Vec<u8>> {
    let head = if typed { 5 } else { 4 };
    let mut message = vec![0; head];
    from.read_exact(&mut message).await?;
    let mut length = [0; 4];
    length.copy_from_slice(&message[head - 4..]);
    let total = head + (u32::from_be_bytes(length) as usize).saturating_sub(4);
    message.resize(total, 0);
    from.read_exact(&mut message[head..]).await?;
    Ok(message)
}
