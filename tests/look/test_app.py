"""The page's files and headers: nothing from elsewhere, nothing of the machine's other files, no foreign host."""

import http.client
import re

import pytest

from fcot.look.app import FOLDER


def test_the_page_and_its_files_are_served_with_their_kinds(served_page):
    page = served_page.client.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    for name in re.findall(r'(?:href|src)="([^"#]+)"', page.text):
        assert served_page.client.get(f"/{name}").status_code == 200, name
    for name in re.findall(r'from "\./([\w.]+)"', served_page.client.get("/look.js").text):
        assert served_page.client.get(f"/{name}").headers["content-type"].startswith("text/javascript")
    assert served_page.client.get("/example.png").content == served_page.form


def test_models_are_listed_with_what_compression_leaves(served_page):
    teacher, student = served_page.client.get("/models").json()["models"]
    assert teacher == {"name": "teacher", "tokens_a_tile": 16, "ratio": 1.0, "instead_of": 16}
    assert student == {"name": "student", "tokens_a_tile": 8, "ratio": 2.0, "instead_of": 16}


@pytest.mark.parametrize("address", ["/", "/models", "/nothing", "/page/nothing"])
def test_every_reply_keeps_the_browser_to_this_server(served_page, address):
    headers = served_page.client.get(address).headers
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'" and set(policy.values()) == {"'none'", "'self'"}
    assert headers["x-content-type-options"] == "nosniff" and headers["cross-origin-resource-policy"] == "same-origin"
    assert "access-control-allow-origin" not in headers


def test_no_file_of_the_page_names_another_address_or_has_code_that_the_policy_forbids():
    for file in FOLDER.iterdir():
        if file.suffix != ".png":
            text = file.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
            assert not re.search(r"https?:|//\w+\.\w|url\(|@import|innerHTML|\bstyle=|\bon\w+=", text), file


PATHS = [
    "/../../../etc/passwd",
    "/%2e%2e/%2e%2e/etc/passwd",
    "/..%2f..%2fapp.py",
    "/app.py",
    "/page/../app.py",
    "//etc",
]


@pytest.mark.parametrize("path", [*PATHS, "/page/%2e%2e%2fapp.py", "/looks/x/..", "/docs", "/openapi.json"])
def test_no_other_file_can_be_read(served_page, path):
    connection = http.client.HTTPConnection("127.0.0.1", served_page.port, timeout=30)  # which sends a path as it is
    connection.request("GET", path)
    reply = connection.getresponse()
    assert reply.status == 404 and b"import" not in reply.read()


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "["])
def test_a_name_of_another_site_that_leads_here_is_refused(served_page, host):
    assert served_page.client.get("/models", headers={"Host": host}).status_code == 400
