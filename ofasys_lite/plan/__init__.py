"""Tree + cards -> Plan; explain. No torch."""
