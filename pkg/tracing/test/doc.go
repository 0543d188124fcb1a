// Package test holds the tests of package tracing that need a NATS server. It
// is a module of its own, so that the library's go.mod requires no server.
package test
