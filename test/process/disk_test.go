package process

import (
	"context"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"example.org/ordertrail/internal/demo"
)

// smallDisk is a file system of its own, with little room.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", dir).CombinedOutput(); err != nil {
		t.Skipf("no file system can be mounted here, which takes root and Linux: %v, %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v, %s", err, out)
		}
	})
	return dir
}

// fill leaves no room on the disk that dir is on, until the returned file is removed.
func fill(t *testing.T, dir string) (file string) {
	t.Helper()
	file = filepath.Join(dir, "ballast")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	block := make([]byte, 4096)
	for err == nil {
		_, err = f.Write(block)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	return file
}

// A disk that others have filled is no limit that the server knows: it loses its trust
// in the stream, gives no answer, and needs a restart when there is room. The shop says
// what it sees of that, and still shows orders; what was taken is concluded.
func TestNoSpaceLeft(t *testing.T) {
	t.Parallel()
	store, port := smallDisk(t), freePort(t)
	server := startNATSOn(t, store, port)
	server.provision(t)
	all, shop := fleet(t, server, "ORDER_DEADLINE=60s")
	slow := demo.Scenarios()[0]
	slow.Token = "tok_slow"
	before, err := shop.Place(context.Background(), slow)
	if err != nil {
		t.Fatal(err)
	}
	ballast := fill(t, store)
	taken := append(refuses(t, shop, "NATS does not answer in time"), before)
	server.said(t, &server.stderr, "ORDERS.*no space left on device")
	if code := status(shop.URL + "/orders/" + before.ID); code != http.StatusOK {
		t.Errorf("an order cannot be read: status %d", code)
	}

	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	server.stopNATS(t)
	startNATSOn(t, store, port)
	for _, p := range all {
		p.ready(t)
	}
	concluded(t, shop, taken...)
	play(t, demo.Scenarios()[:3], shop.URL)
}
