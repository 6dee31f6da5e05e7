#!/usr/bin/env bash
# Builds the images weir and weir-agent, tagged $WEIR_TAG (dev), out of bin/.
# Nothing is fetched.
set -euo pipefail
cd "$(dirname "$0")/../.."
tag=${WEIR_TAG:-dev}
context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT

docker info >/dev/null 2>&1 || {
  echo "no Docker daemon answers; as root, dockerd & starts one" >&2
  exit 1
}
cp bin/weir bin/weirctl bin/weir-agent "$context"
mkdir "$context/empty"
cp /etc/ssl/certs/ca-certificates.crt "$context" 2>/dev/null || : >"$context/ca-certificates.crt"
# The classic builder, where the other one is not installed.
docker buildx version >/dev/null 2>&1 || export DOCKER_BUILDKIT=0
for image in weir weir-agent; do
  docker build --quiet --file deploy/docker/Dockerfile --target "$image" --tag "$image:$tag" "$context" >/dev/null
  echo "image $image:$tag"
done
