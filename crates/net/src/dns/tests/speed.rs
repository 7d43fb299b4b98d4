//! How many questions a core answers: `cargo test -p tare-net --release -- --ignored --nocapture speed`.

use std::net::UdpSocket as StdUdp;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use super::*;

const CLIENTS: usize = 4;
/// Questions that each client has on the way; 1 measures the time of one.
const WINDOWS: [usize; 2] = [1, 16];
const TIME: Duration = Duration::from_secs(3);

#[test]
#[ignore = "measures"]
fn questions_for_names_of_containers() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let _inside = runtime.enter();
    let place = Place::with(&on(&[1, 2], &[]), Limits::default());
    for last in 0..2000_u16 {
        let address = Ipv4Addr::from(0x0a01_0100 + u32::from(last));
        let mut id = [3; 32];
        id[..2].copy_from_slice(&last.to_be_bytes());
        let names = vec![format!("c{last}"), format!("alias{last}")];
        let member = Member { names, addresses: vec![address.into()] };
        place.directory.join(&network(1), &ContainerId::from_bytes(id), member);
    }
    in_memory(&place);
    let server = place.udp.local_addr().unwrap();
    for window in WINDOWS {
        let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
        let before = worker_time(&runtime);
        let start = Instant::now();
        thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| client(server, window, &stop, &done));
            }
            while start.elapsed() < TIME {
                thread::park_timeout(TIME.saturating_sub(start.elapsed()));
            }
            stop.store(true, Ordering::Relaxed);
        });
        let busy = (worker_time(&runtime) - before).as_secs_f64();
        let done = done.load(Ordering::Relaxed) as f64;
        let (rate, each) = (done / start.elapsed().as_secs_f64(), busy / done * 1e6);
        eprintln!(
            "{CLIENTS} clients, {window} on the way: {rate:.0}/s; {each:.1} us of the worker each, {:.0}/s on a core of its own",
            1e6 / each
        );
    }
}

/// Reading, deciding and writing, without sockets.
fn in_memory(place: &Place) {
    let served = place.dns.lock().values().next().unwrap().served.clone();
    let asked = question("c1000.", RecordType::A).to_vec().unwrap();
    let start = Instant::now();
    for _ in 0..100_000 {
        let fate = served.take(&asked, super::super::wire::Transport::Udp);
        assert!(matches!(fate, super::super::server::Fate::Said(_)));
    }
    eprintln!("in memory: {:?} each", start.elapsed() / 100_000);
}

fn client(server: SocketAddr, window: usize, stop: &AtomicBool, done: &AtomicU64) {
    let socket = StdUdp::bind("127.0.0.1:0").unwrap();
    socket.connect(server).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let asked = question("c1000.", RecordType::A).to_vec().unwrap();
    let mut buffer = [0; 512];
    (0..window).for_each(|_| drop(socket.send(&asked)));
    while !stop.load(Ordering::Relaxed) {
        if socket.recv(&mut buffer).is_ok() {
            done.fetch_add(1, Ordering::Relaxed);
        }
        // Also after a lost one, so that the window stays full.
        let _ = socket.send(&asked);
    }
}

/// Time that the one worker thread had the processor.
fn worker_time(runtime: &tokio::runtime::Runtime) -> Duration {
    let clock = async { rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime) };
    let now = runtime.block_on(runtime.spawn(clock)).unwrap();
    Duration::try_from(now).unwrap()
}
