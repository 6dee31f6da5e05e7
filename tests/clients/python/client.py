#!/usr/bin/python3
"""Push, query and tail with Weir's gRPC API, from the protos alone.

Needs Debian's python3-grpcio and python3-grpc-tools (or pip's grpcio and
grpcio-tools). Usage: client.py [HOST:PORT], default 127.0.0.1:9095.
"""
import pathlib
import sys
import tempfile
import time

import grpc
import grpc_tools
from grpc_tools import protoc

proto = pathlib.Path(__file__).resolve().parents[3] / "proto"


def generate(out):
    """Generates the messages and stubs into a folder and makes it importable."""
    public = proto / "public"
    files = [str(f.relative_to(public)) for name in ("push", "query", "tail") for f in (public / "weir" / name / "v1").glob("*.proto")]
    files += ["google/api/annotations.proto", "google/api/http.proto"]
    well_known = pathlib.Path(grpc_tools.__file__).parent / "_proto"
    includes = [f"-I{d}" for d in (public, proto / "third_party", well_known)]
    if protoc.main(["protoc", *includes, f"--python_out={out}", f"--grpc_python_out={out}", *files]):
        sys.exit("protoc failed")
    sys.path.insert(0, out)


def main(addr):
    from weir.push.v1 import push_pb2, push_pb2_grpc
    from weir.query.v1 import query_pb2, query_pb2_grpc
    from weir.tail.v1 import tail_pb2, tail_pb2_grpc

    run = f"python-{time.time_ns()}"
    labels = {"app": "example", "run": run}
    selector = f'{{app="example", run="{run}"}}'

    with grpc.insecure_channel(addr) as channel:
        # Push three lines.
        push = push_pb2_grpc.PushServiceStub(channel)

        def store(*lines):
            entries = [push_pb2.Entry(timestamp_unix_nano=time.time_ns(), text=line) for line in lines]
            stream = push_pb2.Stream(labels=labels, entries=entries)
            answer = push.Push(push_pb2.PushRequest(streams=[stream]), timeout=10, wait_for_ready=True)
            print("push: accepted", answer.accepted_entries, "rejected", answer.rejected_entries)
            assert answer.accepted_entries == len(lines), answer

        store("one", "two", "three")

        # Query them back, oldest first.
        query = query_pb2_grpc.QueryServiceStub(channel)
        request = query_pb2.QueryRangeRequest(query=selector, direction=query_pb2.DIRECTION_FORWARD)
        answer = query.QueryRange(request, timeout=10)
        found = [entry.text for stream in answer.streams.streams for entry in stream.entries]
        print("query:", found)
        assert found == ["one", "two", "three"], found

        # Tail: the same lines first, then one that is pushed meanwhile.
        request = tail_pb2.TailRequest(query=selector)
        request.start.FromSeconds(int(time.time()) - 60)
        seen = []
        for answer in tail_pb2_grpc.TailServiceStub(channel).Tail(request, timeout=30):
            for stream in answer.streams:
                for entry in stream.entries:
                    print("tail:", entry.text)
                    seen.append(entry.text)
            if answer.streams and seen == ["one", "two", "three"]:
                store("four")
            if "four" in seen:
                break
        assert seen == ["one", "two", "three", "four"], seen


with tempfile.TemporaryDirectory() as folder:
    generate(folder)
    main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:9095")
