#!/bin/sh
# Compiles the call helper: build.sh OUTPUT [FLAG ...]
#
# Without flags as it is shipped: static, hardened, and the same bytes from the same compiler wherever it is built.
# With musl (CC=musl-gcc, as in the image) a call is 0.3 ms shorter in a virtual machine: the start of a program of glibc asks
# the processor what it is, some tens of questions that a hypervisor answers. The kernel's headers are the system's then.
# With flags, these instead (tests: sanitizers). $CC is the compiler. A warning is an error either way.
set -eu
output=$1
shift
if [ "$#" -eq 0 ]; then
    set -- -O2 -static -fstack-protector-strong -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3 -s -Wl,--build-id=none -Wl,-z,noexecstack
fi
here=$(dirname "$0")
case ${CC:-cc} in
*musl*) set -- -idirafter /usr/include -idirafter "/usr/include/$("$CC" -print-multiarch)" "$@" ;;
esac
exec "${CC:-cc}" -std=c17 -D_GNU_SOURCE -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wstrict-prototypes -Werror \
    "-ffile-prefix-map=$here=." "$@" -o "$output" \
    "$here/call_helper.c" "$here/job.c" "$here/child.c" "$here/supervise.c" "$here/processes.c" "$here/counters.c" "$here/report.c"
