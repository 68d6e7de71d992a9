//! Commands `waxwing queue list` and `waxwing queue show`.

use std::io::Write;

use waxwing_control::{LastAttempt, MessageInfo, QUEUE_PAGE_MAX, QueueTotals, QueuedUnit};
use waxwing_types::{QueueId, Timestamp};

use crate::formatting::{format_count, format_duration, format_path, format_size, format_time, sanitize, sanitize_lines};
use crate::{ControlClient, ToolError};

/// Lists all delivery units, page by page, or the first `limit`.
pub(crate) fn list(
    client: &mut ControlClient,
    limit: Option<u64>,
    json: bool,
    now: Timestamp,
    out: &mut dyn Write,
) -> Result<(), ToolError> {
    let mut remaining = limit.unwrap_or(u64::MAX);
    let mut after = None;
    let mut shown = 0u64;
    loop {
        let wanted = u32::try_from(remaining).unwrap_or(QUEUE_PAGE_MAX).min(QUEUE_PAGE_MAX);
        let page = client.queue_list(after, wanted)?;
        for unit in &page.units {
            match json {
                true => print_json(unit, out)?,
                false => print_unit(unit, now, shown == 0, out)?,
            }
            shown += 1;
        }
        remaining = remaining.saturating_sub(page.units.len() as u64);
        if page.next.is_none() || remaining == 0 {
            return if json { Ok(()) } else { print_totals(&page.totals, shown, out) };
        }
        after = page.next;
    }
}

/// Prints the details of a message.
pub(crate) fn show(
    client: &mut ControlClient,
    id: QueueId,
    json: bool,
    now: Timestamp,
    out: &mut dyn Write,
) -> Result<(), ToolError> {
    let message = client.queue_show(id)?;
    match json {
        true => print_json(&message, out),
        false => print_message(&message, now, out),
    }
}

pub(crate) fn print_json<T: serde::Serialize>(value: &T, out: &mut dyn Write) -> Result<(), ToolError> {
    serde_json::to_writer(&mut *out, value).map_err(|error| match error.io_error_kind() {
        Some(kind) => ToolError::Output(kind.into()),
        None => ToolError::Json(error),
    })?;
    Ok(out.write_all(b"\n")?)
}

fn print_unit(unit: &QueuedUnit, now: Timestamp, first: bool, out: &mut dyn Write) -> Result<(), ToolError> {
    if first {
        writeln!(out, "{:<13}  {:<8}  {:>7}  {:<20}  SENDER", "ID", "STATE", "SIZE", "ARRIVED")?;
    }
    let arrived = unit.arrived_at.map_or("?".to_owned(), format_time);
    let octets = unit.size.map_or("?".to_owned(), format_size);
    let sender = unit.sender.as_deref().map_or("?".to_owned(), format_path);
    writeln!(out, "{:<13}  {:<8}  {octets:>7}  {arrived:<20}  {sender}", unit.id.to_string(), unit.state)?;
    print_recipients(unit, now, out)
}

fn print_recipients(unit: &QueuedUnit, now: Timestamp, out: &mut dyn Write) -> Result<(), ToolError> {
    if let Some(reason) = &unit.reason {
        writeln!(out, "    {}: {}", unit.state, sanitize(reason))?;
    }
    if unit.attempts > 0 {
        let next = unit.next_at.map_or(String::new(), |at| format!(", next {}", format_due(at, now)));
        writeln!(out, "    {}{next}", format_count(u64::from(unit.attempts), "attempt"))?;
    }
    for recipient in &unit.recipients {
        writeln!(out, "    to {}", format_path(&recipient.address))?;
        if let Some(last) = &recipient.last {
            writeln!(out, "        {}", format_status(last))?;
        }
    }
    Ok(())
}

fn format_due(at: Timestamp, now: Timestamp) -> String {
    if at <= now { "due now".to_owned() } else { format!("in {}", format_duration(at.since(now))) }
}

/// Formats a status as in the log: remote host, reply code, enhanced status code, text.
fn format_status(last: &LastAttempt) -> String {
    let code = last.code.map_or(String::new(), |code| format!("{code} "));
    let text = format!("{code}{} {}", last.enhanced, sanitize(&last.text));
    match &last.remote {
        Some(remote) => format!("{} said: {text}", sanitize(remote)),
        None => text,
    }
}

fn print_totals(totals: &QueueTotals, shown: u64, out: &mut dyn Write) -> Result<(), ToolError> {
    let sum = totals.total();
    if sum == 0 && shown == 0 {
        return Ok(writeln!(out, "The queue is empty.")?);
    }
    let QueueTotals { incoming, deferred, hold, corrupt } = totals;
    let counts = format!("{incoming} incoming, {deferred} deferred, {hold} on hold, {corrupt} corrupt");
    Ok(writeln!(out, "-- {} in the queue: {counts}; {shown} shown", format_count(sum, "unit"))?)
}

fn print_message(message: &MessageInfo, now: Timestamp, out: &mut dyn Write) -> Result<(), ToolError> {
    writeln!(out, "message  {}", message.id)?;
    writeln!(out, "size     {} ({} octets)", format_size(message.size), message.size)?;
    let from = |name: &str, value: &Option<String>| value.as_ref().map(|v| format!("{name} {}", sanitize(v)));
    let parts = [
        from("via", &message.source),
        from("client", &message.peer),
        from("helo", &message.helo),
        from("user", &message.user),
        message.eight_bit.then(|| "8BITMIME".to_owned()),
    ];
    writeln!(out, "origin   {}", parts.into_iter().flatten().collect::<Vec<_>>().join(", "))?;
    for (name, value) in &message.tags {
        writeln!(out, "tag      {}={}", sanitize(name), sanitize(value))?;
    }
    for unit in &message.units {
        let arrived = unit.arrived_at.map_or("?".to_owned(), format_time);
        let sender = unit.sender.as_deref().map_or("?".to_owned(), format_path);
        writeln!(out, "\n{} since {arrived}, from {sender}", unit.state)?;
        print_recipients(unit, now, out)?;
    }
    if let Some(head) = &message.header {
        writeln!(out, "\n{}", sanitize_lines(&head.replace("\r\n", "\n")).trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use waxwing_control::{ControlRequest, ControlResponse, QueuePage, QueueState, QueuedRecipient};

    use super::*;
    use crate::control_client::tests::serve;

    fn unit(n: u64) -> QueuedUnit {
        let last = LastAttempt {
            code: Some(450),
            enhanced: "4.2.0".into(),
            remote: Some("mx.example[192.0.2.1]:25".into()),
            text: "later\x1b[2J".into(),
        };
        QueuedUnit {
            id: QueueId::from_u64(n),
            unit: 0,
            state: QueueState::Deferred,
            reason: None,
            arrived_at: Some(Timestamp::from_millis(1_800_000_000_000)),
            size: Some(4321),
            sender: Some("a@x.example".into()),
            attempts: 2,
            next_at: Some(Timestamp::from_millis(1_800_000_600_000)),
            recipients: vec![QueuedRecipient { address: "b@y.example".into(), last: Some(last) }],
        }
    }

    fn run(answers: Vec<ControlResponse>, f: impl FnOnce(&mut ControlClient, &mut dyn Write)) -> (String, Vec<ControlRequest>) {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("control");
        let server = serve(&socket, answers);
        let mut out = Vec::new();
        f(&mut ControlClient::connect(&socket).unwrap(), &mut out);
        (String::from_utf8(out).unwrap(), server.join().unwrap())
    }

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    #[test]
    fn lists_all_pages_as_a_person_reads_it() {
        let totals = QueueTotals { deferred: 2, ..QueueTotals::default() };
        let first = QueuePage { units: vec![unit(1)], next: Some("here".into()), totals };
        let second = QueuePage { units: vec![unit(2)], next: None, totals };
        let answers = vec![ControlResponse::Queue(first), ControlResponse::Queue(second)];
        let (text, asked) = run(answers, |client, out| list(client, None, false, NOW, out).unwrap());
        assert_eq!(
            text,
            "ID             STATE        SIZE  ARRIVED               SENDER\n\
             0000000000001  deferred   4.3 KB  2027-01-15 08:00:00Z  <a@x.example>\n    \
                 2 attempts, next in 10 min\n    \
                 to <b@y.example>\n        \
                     mx.example[192.0.2.1]:25 said: 450 4.2.0 later\u{fffd}[2J\n\
             0000000000002  deferred   4.3 KB  2027-01-15 08:00:00Z  <a@x.example>\n    \
                 2 attempts, next in 10 min\n    \
                 to <b@y.example>\n        \
                     mx.example[192.0.2.1]:25 said: 450 4.2.0 later\u{fffd}[2J\n\
             -- 2 units in the queue: 0 incoming, 2 deferred, 0 on hold, 0 corrupt; 2 shown\n"
        );
        assert_eq!(asked[1], ControlRequest::QueueList { after: Some("here".into()), limit: QUEUE_PAGE_MAX });
    }

    #[test]
    fn stops_at_the_limit() {
        let page = QueuePage { units: vec![unit(1)], next: Some("here".into()), totals: QueueTotals::default() };
        let (text, asked) = run(vec![ControlResponse::Queue(page)], |client, out| list(client, Some(1), true, NOW, out).unwrap());
        assert_eq!(text.lines().count(), 1);
        assert_eq!(serde_json::from_str::<QueuedUnit>(&text).unwrap(), unit(1));
        assert_eq!(asked, [ControlRequest::QueueList { after: None, limit: 1 }]);
    }

    #[test]
    fn an_empty_queue_says_so() {
        let answers = vec![ControlResponse::Queue(QueuePage::default())];
        let (text, _) = run(answers, |client, out| list(client, None, false, NOW, out).unwrap());
        assert_eq!(text, "The queue is empty.\n");
    }

    #[test]
    fn shows_a_message_with_its_header() {
        let message = MessageInfo {
            id: QueueId::from_u64(1),
            units: vec![QueuedUnit { state: QueueState::Hold, reason: Some("spam".into()), next_at: None, ..unit(1) }],
            source: Some("smtp".into()),
            peer: Some("192.0.2.7:4711".into()),
            helo: Some("x.example".into()),
            user: None,
            eight_bit: true,
            tags: vec![("score".into(), "9".into())],
            header: Some("Subject: hi\x1b\r\nFrom: a\r\n\r\n".into()),
            size: 4321,
        };
        let answers = vec![ControlResponse::Message(Box::new(message))];
        let (text, _) = run(answers, |client, out| show(client, QueueId::from_u64(1), false, NOW, out).unwrap());
        for part in [
            "origin   via smtp, client 192.0.2.7:4711, helo x.example, 8BITMIME\n",
            "tag      score=9\n",
            "hold since 2027-01-15 08:00:00Z, from <a@x.example>\n    hold: spam\n",
            "\n\nSubject: hi\u{fffd}\nFrom: a\n",
        ] {
            assert!(text.contains(part), "{part:?} is not in {text}");
        }
    }
}
