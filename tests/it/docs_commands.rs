//! Commands and requests of the docs, run against a service with the samples' configuration.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use crate::docs::{documents, root, sample_directory, shell_lines, shell_words};
use crate::program::{ServiceProcess, program, run};
use crate::wire::send;

/// Added to the README's configuration, because the docs' samples name it.
const CABINET: &str = "business = 67890\n";
const SOURCE: &str = "\n[[shops.sources]]\nname = \"erp\"\nkind = \"file\"\npath = \"stock.csv\"\n";

/// One new SKU, one changed SKU, and a row that is rejected.
const STOCK: &str = "sku;quantity\nA-9;5\n557722;20\nB-10;x\n";

/// A `curl` command: method, target, headers and body. `@FILE` is read from `directory`.
struct Curl {
    method: String,
    url: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Curl {
    fn parse(line: &str, directory: &Path) -> Self {
        let mut words = shell_words(line).into_iter().skip(1);
        let mut curl = Self {
            method: "GET".to_owned(),
            url: String::new(),
            headers: Vec::new(),
            body: Vec::new(),
        };
        let mut is_method_set = false;
        while let Some(word) = words.next() {
            match word.as_str() {
                "-X" => {
                    curl.method = words.next().unwrap();
                    is_method_set = true;
                }
                "-H" => {
                    let header = words.next().unwrap();
                    let (name, value) = header.split_once(": ").unwrap();
                    curl.headers.push((name.to_owned(), value.to_owned()));
                }
                "-d" | "--data-binary" => {
                    let data = words.next().unwrap();
                    curl.body = match data.strip_prefix('@') {
                        Some(file) => std::fs::read(directory.join(file)).unwrap(),
                        None => data.into_bytes(),
                    };
                    if !is_method_set {
                        "POST".clone_into(&mut curl.method);
                    }
                }
                url => url.clone_into(&mut curl.url),
            }
        }
        curl
    }

    /// Sends the request to the service, if its target is the address of a sample.
    async fn send(&self, service: &ServiceProcess) -> Option<(u16, String)> {
        let (address, path) = if let Some(path) = self.url.strip_prefix("http://127.0.0.1:8080") {
            (service.endpoints.public, path)
        } else {
            let path = self.url.strip_prefix("http://127.0.0.1:9090")?;
            (service.endpoints.ops, path)
        };
        let headers: Vec<(&str, &str)> = self
            .headers
            .iter()
            .map(|(name, value)| (&**name, &**value))
            .collect();
        let response = send(address, &self.method, path, &headers, &self.body).await;
        Some((response.status, response.text()))
    }
}

/// First block of the README with this label.
fn readme_block(info: &str) -> String {
    let documents = documents();
    let readme = documents
        .iter()
        .find(|document| document.name == "README.md");
    let blocks = readme.unwrap().blocks();
    let block = blocks.into_iter().find(|block| block.info == info);
    block.unwrap().text
}

/// Lines of the shell blocks of a document, each with its place.
fn commands(name: &str) -> Vec<(String, String)> {
    let documents = documents();
    let document = documents.iter().find(|document| document.name == name);
    let blocks = document.unwrap().blocks();
    let blocks = blocks.iter().filter(|block| block.info == "sh");
    blocks
        .flat_map(|block| {
            let lines = shell_lines(&block.text).into_iter();
            lines.map(|line| (block.place.clone(), line))
        })
        .collect()
}

/// `program serve` with the file `config.toml` of the directory.
fn serve(directory: &Path) -> ServiceProcess {
    let mut command = program();
    command
        .current_dir(directory)
        .args(["serve", "--config", "config.toml"])
        .env("STOCKBRIDGE_LISTEN", "127.0.0.1:0")
        .env("STOCKBRIDGE_OPS_LISTEN", "127.0.0.1:0");
    ServiceProcess::start(&mut command)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_service_of_the_readme_works() {
    let directory = sample_directory();
    let file = directory.path().join("config.toml");
    std::fs::write(&file, readme_block("toml config")).unwrap();

    let (code, _, stderr) = run(program().arg("check").arg("--config").arg(&file));
    assert_eq!(code, Some(0), "{stderr}");

    let service = serve(directory.path());
    let mut responses = Vec::new();
    for (_, line) in commands("README.md") {
        if !line.starts_with("curl ") {
            continue;
        }
        let curl = Curl::parse(&line, directory.path());
        let (status, text) = curl.send(&service).await.unwrap();
        assert_eq!(status, 200, "{line}: {text}");
        responses.push(text);
    }
    assert_eq!(responses.len(), 3, "update, request and status");
    assert_eq!(responses[1].trim(), readme_block("json").trim());
}

/// Exit code of a command of the docs for a shop that does not send. `None` for a command that
/// does not end, or that needs the Market or other servers.
fn expected_code(words: &[String]) -> Option<i32> {
    match words[1].as_str() {
        "check" | "completions" | "config" | "explain" | "healthcheck" | "import" | "inspect" => {
            Some(0)
        }
        // Nothing is held, the shop does not send, and nothing was read back.
        "accept" | "ready" | "verify" => Some(1),
        "discover" | "doctor" | "notify" | "rehearse" | "selftest" | "serve" => None,
        other => panic!("the docs have a command without an expected exit code: {other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_and_requests_of_the_docs_work() {
    let directory = sample_directory();
    let at = |name: &str| directory.path().join(name);
    let configuration = format!("{}{CABINET}{SOURCE}", readme_block("toml config"));
    std::fs::write(at("config.toml"), configuration).unwrap();
    std::fs::write(at("stock.csv"), STOCK).unwrap();
    for file in ["export.csv", "stock.xlsx"] {
        std::fs::write(at(file), STOCK).unwrap();
    }
    let service = serve(directory.path());

    let lines: Vec<(String, String)> = documents()
        .iter()
        .filter(|document| !document.is_translation())
        .flat_map(|document| commands(&document.name))
        .collect();
    let mut errors = Vec::new();
    let (mut requests, mut programs) = (0, 0);
    for (place, line) in lines {
        let words = shell_words(&line);
        let outcome = match words[0].as_str() {
            "curl" => send_request(&line, directory.path(), &service)
                .await
                .inspect(|_| requests += 1),
            "stockbridge" => {
                run_command(&words, directory.path(), &service).inspect(|_| programs += 1)
            }
            _ => None,
        };
        if let Some(Err(error)) = outcome {
            errors.push(format!("{place}: {line}: {error}"));
        }
    }
    assert!(errors.is_empty(), "{}", errors.join("\n"));
    assert!(requests >= 12, "only {requests} requests were sent");
    assert!(programs >= 12, "only {programs} commands were run");
}

/// Sends a request of the docs. `None` if it is for another server.
async fn send_request(
    line: &str,
    directory: &Path,
    service: &ServiceProcess,
) -> Option<Result<(), String>> {
    let (status, text) = Curl::parse(line, directory).send(service).await?;
    // The shop does not send, and no delivery is held.
    let is_refused = status == 409 || text.contains("NOTHING_HELD");
    let is_expected = status == 200 || status == 202 || is_refused;
    Some(is_expected.then_some(()).ok_or(format!("{status} {text}")))
}

/// Runs a command of the docs. `None` if it does not end or needs the Market.
fn run_command(
    words: &[String],
    directory: &Path,
    service: &ServiceProcess,
) -> Option<Result<(), String>> {
    let expected = expected_code(words)?;
    let (code, _, stderr) = run(program()
        .args(&words[1..])
        .current_dir(directory)
        .env("STOCKBRIDGE_OPS_LISTEN", service.endpoints.ops.to_string()));
    let error = format!("exit code {code:?}: {stderr}");
    Some((code == Some(expected)).then_some(()).ok_or(error))
}

/// Text block of a document that starts with these words.
fn sample(document: &str, start: &str) -> String {
    let documents = documents();
    let document = documents.iter().find(|known| known.name == document);
    let blocks = document.unwrap().blocks();
    let mut blocks = blocks
        .into_iter()
        .filter(|block| block.text.starts_with(start));
    blocks.next().unwrap().text
}

#[tokio::test(flavor = "multi_thread")]
async fn inspect_prints_what_the_docs_show() {
    let name = "1c-export-windows-1251.csv";
    let directory = tempfile::tempdir().unwrap();
    std::fs::copy(
        root().join("fixtures/sources").join(name),
        directory.path().join(name),
    )
    .unwrap();
    let mut command = program();
    let (code, stdout, stderr) = run(command
        .args(["inspect", name])
        .current_dir(directory.path()));
    assert_eq!(code, Some(0), "{stderr}");
    let path = directory.path().canonicalize().unwrap();
    assert_eq!(
        stdout
            .replace(&path.display().to_string(), "/home/seller")
            .trim(),
        sample("docs/sources.md", "file ").trim()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn import_prints_what_the_docs_show() {
    let directory = sample_directory();
    let at = |name: &str| directory.path().join(name);
    std::fs::write(at("config.toml"), readme_block("toml config")).unwrap();
    std::fs::write(at("stock.csv"), STOCK).unwrap();
    let service = serve(directory.path());
    let (_, update) = commands("README.md")
        .into_iter()
        .find(|(_, line)| line.starts_with("curl -X PUT"))
        .unwrap();
    let curl = Curl::parse(&update, directory.path());
    assert_eq!(curl.send(&service).await.unwrap().0, 200);

    let mut command: Command = program();
    let (code, stdout, stderr) = run(command
        .args(["import", "stock.csv", "--shop", "moscow", "--dry-run"])
        .current_dir(directory.path())
        .env("STOCKBRIDGE_OPS_LISTEN", service.endpoints.ops.to_string()));
    assert_eq!(code, Some(0), "{stderr}");
    // The first line is about the transfer and has its duration.
    let (_, result) = stdout.split_once('\n').unwrap();
    assert_eq!(result.trim(), sample("docs/sources.md", "delta of").trim());
}

#[tokio::test(flavor = "multi_thread")]
async fn import_counts_the_bytes_of_a_pipe() {
    let directory = sample_directory();
    let configuration = readme_block("toml config");
    std::fs::write(directory.path().join("config.toml"), configuration).unwrap();
    let service = serve(directory.path());
    let (reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(STOCK.as_bytes()).unwrap();
    drop(writer);

    let mut command: Command = program();
    let (code, stdout, stderr) = run(command
        .args(["import", "/dev/stdin", "--shop", "moscow"])
        .stdin(reader)
        .env("STOCKBRIDGE_OPS_LISTEN", service.endpoints.ops.to_string()));
    assert_eq!(code, Some(0), "{stderr}");
    let bytes = format!("{} bytes read", STOCK.len());
    assert!(stdout.contains(&bytes), "{stdout}");
}
