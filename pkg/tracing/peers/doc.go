// Package peers measures instrumentation of other messaging systems beside
// package tracing. It is a module of its own, so that nobody else needs what it
// imports; docs/tracing.md says what it found.
package peers
