"""The Hub's routes, over a store in memory: what each request of the client is answered with."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml
from hub_store import LARGE, HubError, HubStore, Repository

Reply = tuple[int, dict[str, str], bytes]


def route(store: HubStore, url: str, *, method: str, target: str, body: bytes, range: str | None) -> Reply:
    """Answer one request.

    Args:
        store: What the Hub keeps.
        url: The Hub's own address.
        method: HTTP method; HEAD is answered as GET, without sending the body.
        target: Path and query as they came: the branch "kd/step-2" is the one segment "kd%2Fstep-2".
        body: Content of the request.
        range: The header of that name.
    """
    parts = urlsplit(target)
    for wanted, pattern, work in ROUTES:
        match = re.fullmatch(pattern, parts.path)
        if match and wanted == ("GET" if method == "HEAD" else method):
            words = {name: unquote(value) if value else value for name, value in match.groupdict().items()}
            return work(Call(store, url, words, parse_qs(parts.query), body, range))
    raise HubError(404, None, f"no route for {method} {parts.path}")


@dataclass
class Call:
    """One request on its way through a route."""

    store: HubStore
    url: str
    words: dict[str, str]
    query: dict[str, list[str]]
    body: bytes
    range: str | None

    @property
    def name(self) -> str:
        """Name of the repository: "org/model", "datasets/org/name"."""
        kind = self.words.get("kind") or "models"
        return self.words["repo"] if kind.startswith("models") else f"{kind.rstrip('/')}/{self.words['repo']}"

    @property
    def repository(self) -> Repository:
        return self.store.get(self.name)

    @property
    def revision(self) -> str:
        return self.words.get("rev") or "main"

    def json(self) -> Any:
        return json.loads(self.body or b"{}")


def _json(value: Any, status: int = 200) -> Reply:
    return status, {"Content-Type": "application/json"}, json.dumps(value).encode()


def error_reply(error: HubError) -> Reply:
    headers = {"Content-Type": "application/json", "X-Error-Message": error.message}
    headers |= {"X-Error-Code": error.code} if error.code else {}
    return error.status, headers, json.dumps({"error": error.message}).encode()


def whoami(call: Call) -> Reply:
    return _json({"type": "user", "name": "tester", "fullname": "Tester", "orgs": [{"name": "org"}]})


def validate_yaml(call: Call) -> Reply:
    match = re.match(r"---\s*\n(.*?)\n---", call.json()["content"], re.DOTALL)
    try:
        yaml.safe_load(match[1] if match else "")
    except yaml.YAMLError as error:
        return _json({"errors": [{"message": str(error)}], "warnings": []}, 400)
    return _json({"errors": [], "warnings": []})


def _asked_name(asked: dict[str, Any]) -> str:
    kind = "" if asked.get("type", "model") == "model" else f"{asked['type']}s/"
    return f"{kind}{asked.get('organization') or 'tester'}/{asked['name']}"


def create_repo(call: Call) -> Reply:
    asked = call.json()
    name = _asked_name(asked)
    url = f"{call.url}/{name}"
    if name in call.store.repositories:
        return _json({"error": "You already created this repo", "url": url}, 409)
    call.store.create(name, private=bool(asked.get("private")) or asked.get("visibility") == "private")
    return _json({"url": url, "name": name})


def delete_repo(call: Call) -> Reply:
    call.store.repositories.pop(call.store.get(_asked_name(call.json())).name)
    return _json({})


def list_models(call: Call) -> Reply:
    author = call.query.get("author", [""])[0]
    names = [name for name in call.store.repositories if name.startswith(f"{author}/" if author else "")]
    return _json([{"_id": name, "id": name, "modelId": name} for name in names if not name.startswith("datasets/")])


def repo_info(call: Call) -> Reply:
    commit = call.repository.resolve(call.revision)
    date = commit.date.strftime("%Y-%m-%dT%H:%M:%S.000Z")
    info = {"_id": call.name, "id": call.words["repo"], "modelId": call.words["repo"], "sha": commit.oid, "tags": []}
    siblings = [{"rfilename": path} for path in sorted(commit.files)]
    extra = {"private": call.repository.private, "lastModified": date, "createdAt": date, "downloads": 0, "likes": 0}
    card = call.store.blobs[commit.files["README.md"]].decode() if "README.md" in commit.files else ""
    return _json({**info, **extra, "siblings": siblings, "cardData": _front_matter(card)})


def _front_matter(card: str) -> dict[str, Any]:
    match = re.match(r"---\s*\n(.*?)\n---", card, re.DOTALL)
    return (yaml.safe_load(match[1]) if match else None) or {}


def refs(call: Call) -> Reply:
    branches = [{"name": n, "ref": f"refs/heads/{n}", "targetCommit": c} for n, c in call.repository.branches.items()]
    tags = [{"name": n, "ref": f"refs/tags/{n}", "targetCommit": c} for n, c in call.repository.tags.items()]
    return _json({"branches": branches, "tags": tags, "converts": []})


def create_branch(call: Call) -> Reply:
    if call.words["ref"] in call.repository.branches:
        raise HubError(409, None, f"Reference already exists: refs/heads/{call.words['ref']}")
    start = call.repository.resolve(call.json().get("startingPoint") or "main")
    call.repository.branches[call.words["ref"]] = start.oid
    return _json({})


def delete_branch(call: Call) -> Reply:
    call.repository.resolve(call.words["ref"])
    call.repository.branches.pop(call.words["ref"])
    return _json({})


def create_tag(call: Call) -> Reply:
    tag = call.json()["tag"]
    if tag in call.repository.tags:
        raise HubError(409, None, f"Tag already exists: {tag}")
    call.repository.tags[tag] = call.repository.resolve(call.revision).oid
    return _json({})


def delete_tag(call: Call) -> Reply:
    call.repository.resolve(call.revision)
    call.repository.tags.pop(call.revision)
    return _json({})


def commits(call: Call) -> Reply:
    return _json(
        [
            {
                "id": commit.oid,
                "authors": [{"user": "tester"}],
                "date": commit.date.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
                "title": commit.title,
                "message": commit.message,
            }
            for commit in call.repository.history(call.revision)
        ]
    )


def tree(call: Call) -> Reply:
    files = call.repository.resolve(call.revision).files
    inside = f"{call.words['path']}/" if call.words.get("path") else ""
    below = {path: digest for path, digest in files.items() if path.startswith(inside)}
    if inside and not below:
        raise HubError(404, "EntryNotFound", f"{inside} does not exist")
    if call.query.get("recursive", ["false"])[0].lower() in ("true", "1"):
        return _json([call.store.entry(path, digest) for path, digest in sorted(below.items())])
    folders = sorted({path[len(inside) :].split("/")[0] for path in below if "/" in path[len(inside) :]})
    entries = [{"type": "directory", "path": inside + folder, "oid": "0" * 40, "size": 0} for folder in folders]
    here = [call.store.entry(path, digest) for path, digest in below.items() if "/" not in path[len(inside) :]]
    return _json([*entries, *here])


def paths_info(call: Call) -> Reply:
    files = call.repository.resolve(call.revision).files
    paths = parse_qs(call.body.decode()).get("paths", [])
    return _json([call.store.entry(path, files[path]) for path in paths if path in files])


def preupload(call: Call) -> Reply:
    files = call.repository.resolve(call.revision).files
    answers = []
    for asked in call.json()["files"]:
        path = asked["path"]
        known = call.store.entry(path, files[path]) if path in files else {}
        large: Any = known.get("lfs")
        oid = large["oid"] if large else known.get("oid")
        mode = "lfs" if path.endswith(LARGE) else "regular"
        answers.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
    return _json({"files": answers})


def lfs_batch(call: Call) -> Reply:
    objects: list[dict[str, Any]] = []
    for asked in call.json()["objects"]:
        href = f"{call.url}/lfs/{asked['oid']}"
        missing = asked["oid"] not in call.store.blobs
        objects.append({**asked, **({"actions": {"upload": {"href": href}}} if missing else {})})
    return _json({"transfer": "basic", "objects": objects})


def lfs_put(call: Call) -> Reply:
    if call.store.put(call.body) != call.words["oid"]:
        raise HubError(400, None, "the content is not the one announced")
    return _json({})


def create_commit(call: Call) -> Reply:
    repository, branch = call.repository, call.revision
    if branch not in repository.branches:
        raise HubError(404, "RevisionNotFound", f"Invalid rev id: {branch}")
    lines = [json.loads(line) for line in call.body.splitlines()]
    header = lines[0]["value"]
    if header.get("parentCommit") not in (None, repository.branches[branch]):
        raise HubError(412, None, "A commit has happened since. Please refresh and try again.")
    files = dict(repository.resolve(branch).files)
    for line in lines[1:]:
        _apply(call.store, files, line["key"], line["value"])
    commit = repository.commit(branch, files, title=header["summary"], message=header.get("description", ""))
    url = f"{call.url}/{call.name}/commit/{commit.oid}"
    return _json({"success": True, "commitOid": commit.oid, "commitUrl": url})


def _apply(store: HubStore, files: dict[str, str], key: str, value: dict[str, Any]) -> None:
    path = value["path"]
    if key == "file":
        files[path] = store.put(base64.b64decode(value["content"]))
    elif key == "lfsFile":
        if value["oid"] not in store.blobs:
            raise HubError(400, None, f"the content of {path} was never uploaded")
        files[path] = value["oid"]
    else:
        gone = [name for name in files if name == path or name.startswith(f"{path.rstrip('/')}/")]
        if not gone:
            raise HubError(404, "EntryNotFound", f"A file with this name doesn't exist: {path}")
        for name in gone:
            del files[name]


def resolve(call: Call) -> Reply:
    commit = call.repository.resolve(call.revision)
    digest = commit.files.get(call.words["path"])
    if digest is None:
        raise HubError(404, "EntryNotFound", f"{call.words['path']} does not exist at {call.revision}")
    entry = call.store.entry(call.words["path"], digest)
    content = call.store.blobs[digest]
    headers = {"ETag": f'"{digest if "lfs" in entry else entry["oid"]}"', "X-Repo-Commit": commit.oid}
    if not call.range:
        return 200, headers, content
    start = int(re.fullmatch(r"bytes=(\d+)-.*", call.range)[1])  # type: ignore[index]
    headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
    return 206, headers, content[start:]


_REPO = r"/api/(?P<kind>models|datasets|spaces)/(?P<repo>[^/]+(?:/[^/]+)?)"
_REV = r"/(?P<rev>[^/]+)"
ROUTES: list[tuple[str, str, Callable[[Call], Reply]]] = [
    ("GET", "/api/whoami-v2", whoami),
    ("POST", "/api/validate-yaml", validate_yaml),
    ("POST", "/api/repos/create", create_repo),
    ("DELETE", "/api/repos/delete", delete_repo),
    ("GET", "/api/models", list_models),
    ("GET", rf"{_REPO}/refs", refs),
    ("POST", rf"{_REPO}/branch/(?P<ref>[^/]+)", create_branch),
    ("DELETE", rf"{_REPO}/branch/(?P<ref>[^/]+)", delete_branch),
    ("POST", rf"{_REPO}/tag{_REV}", create_tag),
    ("DELETE", rf"{_REPO}/tag{_REV}", delete_tag),
    ("GET", rf"{_REPO}/commits{_REV}", commits),
    ("GET", rf"{_REPO}/tree{_REV}(?:/(?P<path>.+))?", tree),
    ("POST", rf"{_REPO}/paths-info{_REV}", paths_info),
    ("POST", rf"{_REPO}/preupload{_REV}", preupload),
    ("POST", rf"{_REPO}/commit{_REV}", create_commit),
    ("GET", rf"{_REPO}/revision{_REV}", repo_info),
    ("GET", _REPO, repo_info),
    ("POST", r"/(?P<kind>datasets/|spaces/)?(?P<repo>[^/]+/[^/]+)\.git/info/lfs/objects/batch", lfs_batch),
    ("PUT", r"/lfs/(?P<oid>[0-9a-f]{64})", lfs_put),
    ("GET", rf"/(?P<kind>datasets/|spaces/)?(?P<repo>[^/]+/[^/]+)/resolve{_REV}/(?P<path>.+)", resolve),
]
