use std::io::{BufRead, BufReader};
use std::thread;

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

/// Answers so many requests with `re: <request>`, then ends.
fn daemon(listener: Listener, requests: usize) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let (ask, mut asked) = mpsc::channel(1);
            let mut serving = JoinSet::new();
            serving.spawn(serve(listener.for_tokio().unwrap(), ask));
            for _ in 0..requests {
                let Asked { request, operator } = asked.recv().await.unwrap();
                operator.answer(format!("re: {request}\nof {} bytes\n", request.len()));
            }
            // An answered operator has read everything before the socket goes.
            while serving.len() > 1 {
                serving.join_next().await;
            }
            tokio::task::yield_now().await;
        });
    })
}

#[test]
fn requests_are_answered_in_full() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("binld.sock");
    let listener = Listener::bind(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    // A silent operator, who never asks, hinders nobody.
    let silent = UnixStream::connect(&path).unwrap();
    let daemon = daemon(listener, 3);
    assert_eq!(ask(&path, "status", PATIENCE).unwrap(), "re: status\nof 6 bytes\n");
    assert_eq!(ask(&path, "status --json", PATIENCE).unwrap(), "re: status --json\nof 13 bytes\n");
    // Nor does one who asks too much.
    let mut endless = UnixStream::connect(&path).unwrap();
    let _ = endless.write_all(&vec![b'x'; 2 * usize::from(REQUEST_BYTES_MAX)]);
    let mut nothing = Vec::new();
    let _ = endless.read_to_end(&mut nothing);
    assert!(nothing.is_empty());
    assert!(ask(&path, "last", PATIENCE).is_ok());
    daemon.join().unwrap();
    drop(silent);
    assert!(!path.exists(), "the socket goes with its listener");
}

#[test]
fn asking_nobody_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mtftpd.sock");
    let missing = ask(&path, "status", PATIENCE).unwrap_err().to_string();
    assert!(missing.contains("no daemon answers") && missing.contains("mtftpd.sock"), "{missing}");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    assert!(ask(&path, "status", PATIENCE).unwrap_err().to_string().contains("no daemon answers"));
    assert!(ask(&path, "two\nlines", PATIENCE).is_err());
}

#[test]
fn a_daemon_that_hangs_or_hangs_up_is_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sock");
    let listener = UnixListener::bind(&path).unwrap();
    let hung = ask(&path, "status", Duration::from_millis(10)).unwrap_err().to_string();
    assert!(hung.contains("was silent for 0.01 s"), "{hung}");
    let thread = thread::spawn(move || {
        // The first is the one that gave up.
        drop(listener.accept().unwrap());
        let (stream, _) = listener.accept().unwrap();
        BufReader::new(stream).read_line(&mut String::new()).unwrap();
    });
    let gone = ask(&path, "status", PATIENCE).unwrap_err().to_string();
    assert!(gone.contains("hung up"), "{gone}");
    thread.join().unwrap();
}

#[test]
fn a_left_over_socket_is_replaced_a_live_one_and_a_file_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sock");
    drop(UnixListener::bind(&path).unwrap());
    let live = Listener::bind(&path).unwrap();
    let refused = Listener::bind(&path).unwrap_err().to_string();
    assert!(refused.contains("another daemon answers"), "{refused}");
    assert!(path.exists());

    // Whoever took the place of ours keeps it.
    fs::remove_file(&path).unwrap();
    let successor = Listener::bind(&path).unwrap();
    drop(live);
    assert!(path.exists());
    drop(successor);
    assert!(!path.exists());

    fs::write(&path, "precious").unwrap();
    assert!(Listener::bind(&path).unwrap_err().to_string().contains("is not a socket"));
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    let nowhere = format!("{:#}", Listener::bind(&dir.path().join("no/such/sock")).unwrap_err());
    assert!(nowhere.contains("no/such/sock"), "{nowhere}");
}
