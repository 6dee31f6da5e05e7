#!/usr/bin/env bash
# Builds the images weir, weir-agent and weir-s3, tagged $WEIR_TAG (dev), out of bin/
# and .cache/versitygw. Nothing is fetched.
set -euo pipefail
cd "$(dirname "$0")/../.."
tag=${WEIR_TAG:-dev}
context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT

docker info >/dev/null 2>&1 || {
  echo "no Docker daemon answers; as root, dockerd & starts one" >&2
  exit 1
}
cp bin/weir bin/weirctl bin/weir-agent .cache/versitygw/versitygw LICENSE "$context"
cp "$(cd deploy/versitygw && GOWORK=off GOFLAGS='' go list -m -f '{{.Dir}}' github.com/versity/versitygw)/LICENSE" "$context/LICENSE.versitygw"
mkdir -p "$context/empty" "$context/s3/weir"
cp /etc/ssl/certs/ca-certificates.crt "$context" 2>/dev/null || : >"$context/ca-certificates.crt"
# The classic builder, where the other one is not installed.
docker buildx version >/dev/null 2>&1 || export DOCKER_BUILDKIT=0
for image in weir weir-agent weir-s3; do
  docker build --quiet --file deploy/docker/Dockerfile --target "$image" --tag "$image:$tag" "$context" >/dev/null
  echo "image $image:$tag"
done
