"""What the guest will see on KVM."""
