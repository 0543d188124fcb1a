// Command inventory runs the inventory service against the NATS server at NATS_URL.
package main

import (
	"os"

	"example.org/ordertrail/internal/service"
	"example.org/ordertrail/services/inventory"
)

func main() { service.Main(inventory.Service, os.Args[1:]) }
