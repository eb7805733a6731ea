//! The access log for people: every line that is counted, on standard output, where log shippers collect it. Does I/O,
//! in a thread of its own.
//!
//! Counting comes first. Lines are handed over without waiting; when nobody takes them as fast as they come, they are
//! left out here, and the output says how many. Around a restart of the agent some may be missing or come twice.

use crate::lock;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::mem;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// Bytes that are handed over at once.
const BATCH: usize = 32 << 10;
/// Batches that wait at most: 2 MiB.
const WAITING: usize = 64;
/// A pipe takes so much in one piece, unmixed with what others write to it.
const PIECE: usize = 4096;
/// Half of a pipe.
const HALF: u64 = 32 << 10;

/// What a line of each route begins with; none: nothing is printed.
type Beginnings = Arc<Mutex<Option<BTreeMap<String, String>>>>;

/// Whole lines, and how many were left out before them.
struct Batch {
    text: Vec<u8>,
    left_out: u64,
}

/// Takes lines, and never waits.
#[derive(Debug)]
pub struct Printer {
    beginnings: Beginnings,
    text: Vec<u8>,
    lines: u64,
    left_out: u64,
    sender: SyncSender<Batch>,
}

/// Says whether lines are printed, and by which names.
#[derive(Clone, Debug, Default)]
pub struct Switch(Beginnings);

impl Switch {
    /// Prints from now on, with the name of each route by its id; `None`: prints no more.
    pub fn set(&self, names: Option<BTreeMap<String, String>>) {
        let beginning = |name: String| {
            // A text always becomes JSON.
            let name = serde_json::to_string(&name).unwrap_or_default();
            format!("{{\"log\":\"access\",\"route\":{name},")
        };
        let all = |names: BTreeMap<_, _>| names.into_iter().map(|(id, name)| (id, beginning(name))).collect();
        *lock(&self.0) = names.map(all);
    }
}

impl Printer {
    /// Prints to `out`; nothing yet.
    pub fn to(out: impl Write + Send + 'static) -> (Self, Switch) {
        let (sender, batches) = sync_channel(WAITING);
        thread::spawn(move || print(batches, out));
        let switch = Switch::default();
        let beginnings = Arc::clone(&switch.0);
        (Self { beginnings, text: Vec::new(), lines: 0, left_out: 0, sender }, switch)
    }

    /// Takes a line without its end, if lines are printed.
    pub(super) fn line(&mut self, line: &[u8]) {
        let beginnings = lock(&self.beginnings);
        let Some(beginnings) = &*beginnings else { return };
        let Some(rest) = line.strip_prefix(b"{").filter(|rest| rest.ends_with(b"}")) else { return };
        let beginning = route(line).and_then(|id| beginnings.get(id));
        self.text.extend(beginning.map_or(&b"{\"log\":\"access\","[..], |text| text.as_bytes()));
        self.text.extend(rest);
        self.text.push(b'\n');
        self.lines += 1;
    }

    /// Hands over what has come together.
    pub(super) fn flush(&mut self) {
        if self.text.is_empty() {
            return;
        }
        let batch = Batch { text: mem::take(&mut self.text), left_out: mem::take(&mut self.left_out) };
        let lines = mem::take(&mut self.lines);
        if let Err(refused) = self.sender.try_send(batch) {
            use std::sync::mpsc::TrySendError::{Disconnected, Full};
            let (Full(batch) | Disconnected(batch)) = refused;
            self.left_out = batch.left_out + lines;
        }
    }

    /// Whether enough has come together to be handed over.
    pub(super) fn is_full(&self) -> bool {
        self.text.len() >= BATCH
    }
}

/// The route of a line, as `nginx::build` has NGINX write it.
fn route(line: &[u8]) -> Option<&str> {
    let rest = line.strip_prefix(b"{\"r\":\"")?;
    let end = rest.iter().position(|byte| *byte == b'"')?;
    std::str::from_utf8(&rest[..end]).ok()
}

/// Until the printer is gone, or the output is.
fn print(batches: Receiver<Batch>, mut out: impl Write) {
    for Batch { text, left_out } in batches {
        let note = format!("{{\"log\":\"access\",\"leftOut\":{left_out}}}\n");
        let note = if left_out > 0 { note.as_bytes() } else { &[] };
        if pieces(note).chain(pieces(&text)).any(|piece| out.write_all(piece).is_err()) {
            return;
        }
    }
}

/// `text` in pieces of whole lines; a line that is longer than a piece is one.
fn pieces(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let most = &rest[..rest.len().min(PIECE)];
        let is_end = |byte: &u8| *byte == b'\n';
        let end = most.iter().rposition(is_end).or_else(|| rest.iter().position(is_end))?;
        let (piece, after) = rest.split_at(end + 1);
        rest = after;
        Some(piece)
    })
}

/// Standard output. Half of its pipe is always left free, so that what the agent itself says never waits behind lines
/// of the access log.
#[derive(Debug)]
pub struct Stdout;

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Not through the lock of `io::stdout`: whoever else wants it would wait as long as this does.
        let out = io::stdout();
        // A file or a terminal has no such number.
        while rustix::io::ioctl_fionread(&out).is_ok_and(|unread| unread > HALF) {
            thread::sleep(Duration::from_millis(1));
        }
        Ok(rustix::io::write(&out, bytes)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Sender, channel};

    const LINE: &[u8] = br#"{"r":"00000000000000aa","s":"200"}"#;

    /// Gives each piece that is written to whoever reads; without a reader nothing goes on.
    struct Pipe {
        begun: Sender<()>,
        reader: SyncSender<Vec<u8>>,
    }

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.begun.send(());
            self.reader.send(bytes.to_vec()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A printer and its switch; what is told when a piece is about to be written, and the pieces.
    fn printer() -> (Printer, Switch, Receiver<()>, Receiver<Vec<u8>>) {
        let ((begun, begins), (reader, written)) = (channel(), sync_channel(0));
        let (printer, switch) = Printer::to(Pipe { begun, reader });
        (printer, switch, begins, written)
    }

    fn names() -> Option<BTreeMap<String, String>> {
        Some([("00000000000000aa".to_owned(), "content".to_owned())].into())
    }

    #[test]
    fn a_line_says_what_it_is_and_of_which_route() {
        let (mut printer, switch, _, written) = printer();
        printer.line(LINE);
        switch.set(names());
        printer.line(LINE);
        printer.line(br#"{"r":"","s":"404"}"#);
        printer.line(br#"{"r":"00000000000000aa","s"#);
        printer.flush();
        let expected = "{\"log\":\"access\",\"route\":\"content\",\"r\":\"00000000000000aa\",\"s\":\"200\"}\n\
                        {\"log\":\"access\",\"r\":\"\",\"s\":\"404\"}\n";
        assert_eq!(String::from_utf8(written.recv().unwrap()).unwrap(), expected);
        switch.set(None);
        printer.line(LINE);
        assert!(printer.text.is_empty());
    }

    #[test]
    fn whoever_does_not_read_holds_nothing_up_and_learns_what_he_missed() {
        let (mut printer, switch, begins, written) = printer();
        switch.set(names());
        let mut print = || {
            printer.line(LINE);
            printer.flush();
            printer.left_out
        };
        print();
        // It is about to be written and waits for its reader; behind it so many have room.
        begins.recv().unwrap();
        assert!((0..WAITING).all(|_| print() == 0));
        assert_eq!((0..5).map(|_| print()).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
        for _ in 0..=WAITING {
            assert!(!String::from_utf8(written.recv().unwrap()).unwrap().contains("leftOut"));
        }
        assert_eq!(print(), 0);
        let note = String::from_utf8(written.recv().unwrap()).unwrap();
        assert_eq!(note, "{\"log\":\"access\",\"leftOut\":5}\n");
        assert_eq!(written.recv().unwrap().iter().filter(|byte| **byte == b'\n').count(), 1);
    }

    #[test]
    fn pieces_are_whole_lines_that_a_pipe_takes_at_once() {
        let text = [LINE, b"\n"].concat().repeat(1000);
        let cut: Vec<&[u8]> = pieces(&text).collect();
        assert!(cut.len() > 1 && cut.iter().all(|piece| piece.len() <= PIECE && piece.ends_with(b"\n")));
        assert_eq!(cut.concat(), text);
        let long = [vec![b'x'; 2 * PIECE], b"\nshort\n".to_vec()].concat();
        assert_eq!(pieces(&long).map(<[u8]>::len).collect::<Vec<_>>(), [2 * PIECE + 1, 6]);
        assert_eq!(pieces(b"").count(), 0);
    }

    #[test]
    fn an_output_that_ends_ends_nothing_else() {
        let (sender, receiver): (Sender<()>, _) = channel();
        struct Broken(Sender<()>);
        impl Write for Broken {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                let _ = self.0.send(());
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (mut printer, switch) = Printer::to(Broken(sender));
        switch.set(names());
        printer.line(LINE);
        printer.flush();
        receiver.recv().unwrap();
        // Ends when the thread has: then nobody takes anything any more.
        assert!(receiver.recv().is_err());
        printer.line(LINE);
        printer.flush();
        assert_eq!(printer.left_out, 1);
    }
}
