// Command notify runs the notify service against the NATS server at NATS_URL.
package main

import (
	"os"

	"example.org/ordertrail/internal/service"
	"example.org/ordertrail/services/notify"
)

func main() { service.Main(notify.Service(nil), os.Args[1:]) }
