#!/bin/bash
# The shards of a run as an array of Slurm: a task a shard, with sandbox workers in rootless Podman on its node.
#
#   sbatch --array=0-9 shards.slurm.sh
#   FIRST=1000 sbatch --array=0-999 shards.slurm.sh    # the shards from 1000 on: arrays have an end (MaxArraySize)
#
# Run by us: what docs/engines.md#podman says of Podman. Not run by us: Slurm, and this file as a whole.
# Yours to set: the images (loaded into each node's Podman: `docker save agenttrace-sandbox:0.1.0 | podman load`), the
# model, the store, the endpoint, the limits of the task. Podman needs control groups of version 2, delegated to the user.
#SBATCH --job-name=agenttrace
#SBATCH --cpus-per-task=6
#SBATCH --mem=8G
#SBATCH --signal=B:TERM@120
set -euo pipefail

workers=4
sockets=$(mktemp --directory /tmp/agenttrace-XXXXXXXX)

end() {
    podman rm --force --ignore --volumes --time 2 $(seq --format "agenttrace-$SLURM_JOB_ID-%g" "$workers") >/dev/null || true
    rm -rf "$sockets"
}
trap end EXIT

# No network from the start. The step is asked for all the same: Podman cannot limit the files in memory, and more of a
# container is weaker there (docs/engines.md). Its rights are the user's own: Podman has no others without root.
for number in $(seq "$workers"); do
    podman run --detach --name "agenttrace-$SLURM_JOB_ID-$number" --restart always --network none --read-only \
        --read-only-tmpfs=false --cap-drop ALL --cap-add CHOWN,DAC_OVERRIDE,FOWNER,KILL,SETGID,SETUID \
        --cap-add SYS_ADMIN,SETPCAP,NET_ADMIN --memory 1g --memory-swap 1g --cpus 1 --pids-limit 256 \
        --volume "$sockets:/run/agenttrace" --volume /testdata agenttrace-sandbox:0.1.0 --enclose >/dev/null
done

shard=$((${FIRST:-0} + SLURM_ARRAY_TASK_ID))
agenttrace cluster shard "$shard" Qwen/Qwen3-0.6B --dataset mbpp --run-id run-1 --store s3://bucket/path \
    --base-url http://vllm.example:8000/v1 --workers "$workers" --sockets "$sockets" &
trap 'kill -TERM $!' TERM # what is finished is kept
wait $! || true # until the shard is over, or a signal came
wait $!
