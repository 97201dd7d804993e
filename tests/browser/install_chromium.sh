#!/bin/sh
# The browser tests drive a Chromium of this machine. Where there is none, get one: Debian's package if we may install
# it, else the build that Playwright ships.
set -eu
for name in chromium chromium-browser google-chrome; do
  if command -v "$name" >/dev/null; then exit 0; fi
done
if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
  echo "installing chromium"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium >/dev/null
else
  .venv/bin/playwright install chromium
fi
