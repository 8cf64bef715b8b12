#!/usr/bin/env bash
# A base image for tests, made of this machine's own Python and packages, for a Docker engine without a registry:
#   docker/test-base.sh [PYTHON] [TAG]
#   docker build -f docker/Dockerfile --build-arg BASE=TAG --build-arg TORCH=base \
#     --build-arg PIP_ARGS="--no-index --no-build-isolation --no-deps" --target site -t fednc-site:test .
# The packages of WITHOUT, large or of many files, stay out: their folders are empty, for the machine's own to be mounted
# there; the image's label `without` names them.
set -euo pipefail
PYTHON=${1:-.venv/bin/python}
TAG=${2:-fednc-base:test}
WITHOUT=${WITHOUT-torch torchvision torchvision.libs torchgen nvidia triton ray sympy scipy sklearn networkx onnx onnxruntime \
  onnxscript mypy mypyc hypothesis scipy.libs cuda playwright timm}

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
read -r version executable stdlib packages < <("$PYTHON" - <<'END'
import os, sys, sysconfig
print(f"{sys.version_info[0]}.{sys.version_info[1]}", os.path.realpath(sys._base_executable),
      sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"))
END
)
lib=$root/usr/local/lib/python$version
mkdir -p "$root"/{etc/ssl,tmp,usr/bin,usr/sbin,usr/lib,usr/lib64,usr/local/bin} "$lib/site-packages"
chmod 1777 "$root/tmp"
for link in bin sbin lib lib64; do ln -s "usr/$link" "$root/$link"; done

cp "$executable" "$root/usr/local/bin/python$version"
ln -s "python$version" "$root/usr/local/bin/python3"
ln -s "python$version" "$root/usr/local/bin/python"
tar -C "$stdlib" --exclude=./site-packages --exclude=./dist-packages --exclude=./test --exclude=./idlelib --exclude=./lib2to3 \
  --exclude='./config-*' -c . | tar -C "$lib" -x
exclude=()
for name in $WITHOUT; do
  exclude+=("--exclude=./$name")
  [ -d "$packages/$name" ] && mkdir -p "$lib/site-packages/$name"
done
tar -C "$packages" "${exclude[@]}" --exclude='./fednc*' --exclude='./_fednc*' --exclude='./__editable__*' \
  -c . | tar -C "$lib/site-packages" -x
ln -s site-packages "$lib/dist-packages"  # where Debian's own Python looks
# Flower's commands, with this interpreter
for script in "$(dirname "$PYTHON")"/{flower-*,flwr*}; do
  { echo "#!/usr/local/bin/python"; tail -n +2 "$script"; } > "$root/usr/local/bin/$(basename "$script")"
done
chmod 755 "$root"/usr/local/bin/*
# what builds FedNC's package
"$PYTHON" -c 'import hatchling' 2>/dev/null || "$PYTHON" -m pip install -q --target "$lib/site-packages" hatchling
"$PYTHON" -c 'import pip' 2>/dev/null || "$PYTHON" -m ensurepip -q --root "$root"

# a shell and a few tools, and every shared library that is linked to
for tool in sh bash cat chmod chown cp env id ln ls mkdir rm sleep tar true; do
  cp -L "$(type -P "$tool")" "$root/usr/bin/"
done
libraries=$root/usr/lib/x86_64-linux-gnu
mkdir -p "$libraries"
linked() {
  find "$root" "$packages"/torch "$packages"/torchvision -type f \( -name '*.so*' -o -path '*/bin/*' \) 2>/dev/null \
    | xargs -r ldd 2>/dev/null | grep -oE '(=> )?/[^ ]+' | sed 's/^=> //' | sort -u | grep -v -e "^$root" -e "^$packages"
}
(linked || true) | while read -r file; do
  if [ -f "$file" ]; then cp -Ln "$file" "$libraries/"; fi
done
cp -L /lib/*/libnss_{dns,files}.so.2 "$libraries/" 2>/dev/null || true
cp -L /lib64/ld-linux-x86-64.so.2 "$root/usr/lib64/"
echo 'root:x:0:0:root:/root:/bin/sh' > "$root/etc/passwd"
echo 'root:x:0:' > "$root/etc/group"
echo 'hosts: files dns' > "$root/etc/nsswitch.conf"

tar -C "$root" --owner=0 --group=0 --numeric-owner -c . | docker import --change "LABEL without=\"$(echo $WITHOUT)\"" \
  --change 'ENV PATH=/usr/local/bin:/usr/bin:/bin LD_LIBRARY_PATH=/usr/lib/x86_64-linux-gnu' - "$TAG" > /dev/null
echo "$TAG"
