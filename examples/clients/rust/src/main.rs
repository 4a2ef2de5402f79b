//! The four kinds of call, against demo.v1.Words.

use std::{env, process::ExitCode, time::Duration};

use futures::{FutureExt, SinkExt, StreamExt, channel::mpsc, stream};
use tonic::{
    Code, Request, Status,
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt;

use words::{CountRequest, LookupRequest, SplitRequest, Word, words_client::WordsClient};

mod words {
    tonic::include_proto!("demo.v1");
}

const TEXT: &str = "to be or not to be";
const TIMEOUT: Duration = Duration::from_secs(10);

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let address = env::args().nth(1).unwrap_or("127.0.0.1:50051".into());
    let channel = match Endpoint::from_shared(format!("http://{address}")) {
        Ok(endpoint) => endpoint.connect_lazy(),
        Err(error) => {
            eprintln!("{address}: {error}");
            return ExitCode::FAILURE;
        }
    };
    let words = WordsClient::new(channel);
    let calls = [
        ("Count", count(words.clone()).boxed_local()),
        ("Lookup", lookup(words.clone()).boxed_local()),
        ("Split", split(words.clone()).boxed_local()),
        ("Join", join(words.clone()).boxed_local()),
        ("Echo", echo(words).boxed_local()),
    ];
    for (name, call) in calls {
        match call.await {
            Ok(answer) => println!("{name}: {answer}"),
            Err(status) => {
                eprintln!("{name} failed: {:?} {}", status.code(), status.message());
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

/// One message there, one back.
async fn count(mut words: WordsClient<Channel>) -> Result<String, Status> {
    let response = words
        .count(request(CountRequest { text: TEXT.into() }))
        .await?;
    Ok(response.into_inner().words.to_string())
}

/// A failure: its code, its message, and what details it has.
async fn lookup(mut words: WordsClient<Channel>) -> Result<String, Status> {
    match words
        .lookup(request(LookupRequest {
            word: "xylophone".into(),
        }))
        .await
    {
        Err(status) if status.code() == Code::NotFound => {
            if let Some(info) = status.get_details_resource_info() {
                eprintln!(
                    "ResourceInfo: {} {}",
                    info.resource_type, info.resource_name
                );
            }
            Ok(format!("NOT_FOUND {}", status.message()))
        }
        Err(status) => Err(status),
        Ok(_) => Err(Status::unknown("the word is known")),
    }
}

/// One message there, many back.
async fn split(mut words: WordsClient<Channel>) -> Result<String, Status> {
    let mut stream = words
        .split(request(SplitRequest { text: TEXT.into() }))
        .await?
        .into_inner();
    let mut found = Vec::new();
    while let Some(word) = stream.message().await? {
        found.push(word.word);
    }
    Ok(found.join(" "))
}

/// Many messages there, one back.
async fn join(mut words: WordsClient<Channel>) -> Result<String, Status> {
    let response = words
        .join(request(stream::iter(TEXT.split(' ').map(word))))
        .await?;
    Ok(response.into_inner().text)
}

/// Many there, many back: each word is sent when the one before it has come back.
async fn echo(mut words: WordsClient<Channel>) -> Result<String, Status> {
    let (mut go, goes) = mpsc::channel(1);
    // The first word does not wait: until it comes back there may be no response at all.
    go.send(()).await.ok();
    let requests = stream::iter(TEXT.split(' ').map(word))
        .zip(goes)
        .map(|(word, ())| word);
    let mut echoes = words.echo(request(requests)).await?.into_inner();
    let mut back = Vec::new();
    while let Some(word) = echoes.message().await? {
        back.push(word.word);
        go.send(()).await.ok();
    }
    Ok(back.join(" "))
}

fn request<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(TIMEOUT);
    request
}

fn word(word: &str) -> Word {
    Word { word: word.into() }
}
