# The commands of this project. Each one is a script or one cargo line: nothing is hidden here.
#
#   make test    everything CI runs, ending with nextest's summary
#   make demo    three nodes on this machine with live traffic; Ctrl-C ends it   (ARGS="--seconds 10")
#   make replay  one simulated cluster, told so that a person can follow it     (ARGS="...")
#   make bench   every figure beside its peer, written to bench/results.json   (ARGS="--quick" claims nothing)
#   make bench-core, make bench-node   one half of it   (ARGS="..." names what is measured)
#   make fuzz    the decoders against libFuzzer   (FUZZ_SECONDS=60 FUZZ_TARGETS="a b")
#   make fuzz-corpus   keeps what `make fuzz` found and the committed corpus did not reach
#   make tools   what the above needs and this machine lacks

.PHONY: test demo replay bench bench-core bench-node fuzz fuzz-corpus tools

FUZZ_SECONDS ?= 60
FUZZ_TARGETS ?=
ARGS ?=

test:
	@sh scripts/test.sh

demo:
	@sh scripts/install-tools.sh demo
	cargo run -p daemon -- demo --nodes 3 $(ARGS)

replay:
	cargo run --bin sim -- --demo $(ARGS)

bench: bench-core bench-node

bench-core:
	cargo run --release -p bench -- $(ARGS)

# The figures of a node are taken on the shipped binary, from outside.
bench-node:
	cargo build --release -p daemon -p bench-node
	cargo run --release -p bench-node -- $(ARGS)

fuzz:
	@sh scripts/fuzz.sh --seconds $(FUZZ_SECONDS) $(FUZZ_TARGETS)

fuzz-corpus:
	@sh scripts/fuzz.sh --merge $(FUZZ_TARGETS)

tools:
	@sh scripts/install-tools.sh
