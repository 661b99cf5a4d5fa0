"""Treatment: infusion and registration for the surgical robot."""
