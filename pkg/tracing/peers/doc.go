// Package peers measures instrumentation of other messaging systems beside
// package tracing. It is a module of its own, so that no other
// module requires what it imports; docs/tracing.md has the results.
package peers
