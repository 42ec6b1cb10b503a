"""What a network must beat: openSMILE's functionals with a support vector machine."""
