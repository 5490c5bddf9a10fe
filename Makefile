# The commands people type. Each calls one program; what it does is said there.
.PHONY: help start test test-full lint image dist bench clean

help: ## Lists these commands.
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 12

start: ## Installs what is missing, builds Coracle and its image, starts a cluster.
	scripts/start

test: ## The tests that CI runs: units, then journeys against a real cluster.
	scripts/test

test-full: ## The tests of CI and the long ones: the image from nothing, compared.
	scripts/test --full

lint: ## Format, warnings, licences, the check for Windows.
	scripts/lint

image: ## Builds the image of the virtual machine.
	scripts/build --image

dist: ## Makes the files of a release.
	scripts/dist

bench: ## Measures what docs/ promises.
	scripts/bench

clean: ## Removes what was built here; clusters and their data stay.
	scripts/clean
