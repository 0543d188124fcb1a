// Command notify runs the notify service against the NATS server at NATS_URL.
package main

import (
	"ordertrail/internal/service"
	"ordertrail/services/notify"
)

func main() { service.Main(notify.Name, "", notify.Wire) }
